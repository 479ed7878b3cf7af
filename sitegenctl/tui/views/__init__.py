"""The views, one module each, in the order of their tabs and number keys. The first one is shown at start."""

from __future__ import annotations

from typing import Any

from sitegenctl.tui.views.doctor import DoctorView
from sitegenctl.tui.views.events import EventsView
from sitegenctl.tui.views.history import HistoryView
from sitegenctl.tui.views.orders import OrdersView
from sitegenctl.tui.views.queue import QueueView
from sitegenctl.tui.views.view import View
from sitegenctl.tui.views.workers import WorkersView

VIEWS: tuple[type[View[Any]], ...] = (OrdersView, QueueView, WorkersView, EventsView, DoctorView, HistoryView)
