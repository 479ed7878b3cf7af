"""The plan of an action, the question whether to execute it, and the outcomes as they arrive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, Static

from sitegenctl.config.settings import Settings
from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.diagnosis.remedy import Hint
from sitegenctl.domain.orders.operation import Operation
from sitegenctl.domain.plans.plan import OperationResult, Outcome, OutcomeKind, Plan
from sitegenctl.domain.plans.repair import RepairOptions
from sitegenctl.domain.plans.reset import ResetOptions
from sitegenctl.errors import SitegenError
from sitegenctl.operations.cancel_planner import CancelPlanner
from sitegenctl.operations.enqueue_planner import EnqueuePlanner, RetryPlanner, StartPlanner
from sitegenctl.operations.execute import execute_plan, preview
from sitegenctl.operations.planner import Planner, Selection
from sitegenctl.operations.repair_planner import FixPlanner, RepairPlanner
from sitegenctl.operations.reset_planner import ResetPlanner
from sitegenctl.operations.undo_planner import UndoPlanner
from sitegenctl.render.command import hint_text
from sitegenctl.render.outcomes import outcome_text, outcome_word
from sitegenctl.render.text import neutralise
from sitegenctl.session import Session
from sitegenctl.tui.service import Job, LiveService
from sitegenctl.tui.widgets.live_table import Cell, Column, LiveTable
from sitegenctl.tui.widgets.look import palette

_COLUMNS = (
    Column(heading="order", width=7, number=True),
    Column(heading="", width=18),
    Column(heading="details"),
)

#: Lines of the table that are always shown, including its headings.
_MIN_LINES = 3

_MAX_HINTS = 3

_SEVERITIES = {OutcomeKind.FAILED: Severity.FAULT, OutcomeKind.REFUSED: Severity.UNKNOWN}

#: Stop running tasks; ignore back-off and the grace period.
_OPTIONS = {"terminate": ("t", "stop running tasks"), "force": ("f", "force")}


@dataclass(frozen=True, kw_only=True)
class Action:
    """``done`` is the past participle of ``name``; ``options`` are the supported ones.

    ``names_orders`` is whether each order gets an outcome, even if the action does not apply to it. ``destroys`` is
    whether it always removes something; a plan that resets orders does in any case.
    """

    name: str
    done: str
    names_orders: bool = True
    destroys: bool = False
    options: tuple[str, ...] = ()

    def planner(self, chosen: Collection[str]) -> Planner:
        """Return the planner of the command of the same name, with the chosen options."""
        terminate, force = "terminate" in chosen, "force" in chosen
        planners: Mapping[str, Planner] = {
            "fix": FixPlanner(),
            "enqueue": EnqueuePlanner(force=force),
            "start": StartPlanner(),
            "retry": RetryPlanner(force=force),
            "repair": RepairPlanner(options=RepairOptions(terminate=terminate)),
            "reset": ResetPlanner(options=ResetOptions(terminate=terminate, force=force)),
            "cancel": CancelPlanner(terminate=terminate),
            "undo": UndoPlanner(),
        }
        return planners[self.name]


ACTIONS: Mapping[str, Action] = {
    action.name: action
    for action in (
        Action(name="fix", done="fixed"),
        Action(name="enqueue", done="enqueued", options=("force",)),
        Action(name="start", done="started", names_orders=False),
        Action(name="retry", done="retried", names_orders=False, options=("force",)),
        Action(name="repair", done="repaired", options=("terminate",)),
        Action(name="reset", done="reset", destroys=True, options=("terminate", "force")),
        Action(name="cancel", done="cancelled", destroys=True, options=("terminate",)),
        Action(name="undo", done="undone", destroys=True),
    )
}


class NumberInput(Input):
    """Accepts digits only; other characters remain keys of the screen."""

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return _is_digit(character)

    def on_key(self, event: events.Key) -> None:
        if event.is_printable and not _is_digit(event.character):
            event.prevent_default()


def _is_digit(character: str | None) -> bool:
    return character is not None and character.isascii() and character.isdigit()


class ActionScreen(ModalScreen[bool]):
    """Changes nothing before the user confirms the plan. Returns whether the plan was executed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "execute", "execute", tooltip="Execute the plan"),
        Binding("enter", "execute_safe", "execute", show=False),
        *(Binding(key, f"toggle_option('{name}')", text) for name, (key, text) in _OPTIONS.items()),
        Binding("escape,n,q", "leave", "close"),
        # The table does not have the focus while a number is typed.
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
    ]

    def __init__(
        self,
        action: Action,
        order_ids: Sequence[int],
        service: LiveService,
        settings: Settings,
        *,
        operation: Operation | None = None,
    ) -> None:
        super().__init__()
        self._action = action
        self._order_ids = order_ids
        self._operation = operation
        self._service = service
        self._settings = settings
        self._options: frozenset[str] = frozenset()
        self._plan: Plan | None = None
        self._verbs: Mapping[int, str] = {}
        self._job: Job[OperationResult] | None = None
        self._is_dry_run = True
        self._notes: list[str] = []
        self.result: OperationResult | None = None
        self.outcomes: LiveTable[Outcome] = LiveTable(
            _COLUMNS, lambda outcome: outcome.order_id, self._cells, id="outcomes"
        )
        self._number = NumberInput(id="number", compact=True)

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog", classes="destroys" if self._destroys else ""):
            yield Static(id="title", markup=False)
            yield self.outcomes
            yield Static(id="notes", markup=False)
            yield Static(id="question", markup=False)
            yield self._number
            keys = Static(id="keys", markup=False)
            keys.auto_links = False
            yield keys

    def on_mount(self) -> None:
        self._make_plan()

    @property
    def is_busy(self) -> bool:
        """Whether the plan is being executed."""
        return self._job is not None and self.result is None

    @property
    def _destroys(self) -> bool:
        """Whether something is removed: then Enter does nothing, since it is easily pressed by mistake."""
        return self._action.destroys or (self._plan is not None and self._plan.resets)

    @property
    def _required_number(self) -> int | None:
        """The number that must be typed before the plan is executed."""
        return self._plan.number_to_type if self._plan is not None and self._job is None else None

    # --- planning and executing ---------------------------------------------------------------------------

    @work(exclusive=True)
    async def _make_plan(self) -> None:
        self._plan = None
        self._show(f"{self._title}: planning …")
        options = self._options

        async def plan(session: Session) -> Plan:
            await session.orders.require_writable()
            planner, order_ids = self._action.planner(options), self._order_ids
            if (operation := self._operation) is not None:
                if operation.operation_id is not None:
                    # Of the oldest operation in a list, only a part may have been read.
                    operation = await session.orders.read_operation(operation.operation_id) or operation
                planner = UndoPlanner(operation=operation)
                order_ids = [entry.order_id for entry in operation.entries]
            selection = Selection(order_ids=order_ids, named=self._action.names_orders)
            return await planner.plan_all(session, selection)

        try:
            self._plan = await self._service.ask(plan)
        except SitegenError as exc:
            self._show(f"{self._title}: not possible now", exc.message, exc.hint)
            return
        self._verbs = {step.order_id: step.verb for step in self._plan.steps}
        outcomes = preview(self._plan).outcomes
        self.outcomes.rows = outcomes
        self.query_one("#dialog").set_class(self._destroys, "destroys")
        if self._required_number is not None:
            self._number.value = ""
            self._number.focus()
        self._show(self._plan_title(self._plan), *self._plan.notes, *self._hints(outcomes))

    def action_execute(self) -> None:
        """Execute the plan; close the screen if there is nothing left to do."""
        if self._plan is None or self.is_busy:
            return
        if self.result is not None or not self._plan.steps:
            self.action_leave()
            return
        number = self._required_number
        if number is not None and self._number.value != str(number):
            self._show_question(f"{self._number.value} is not {number}, nothing was changed. ")
            self._number.value = ""
            self._number.focus()
        elif self._job is None:
            self._execute(self._plan)

    def action_execute_safe(self) -> None:
        if self.result is not None or not self._destroys:
            self.action_execute()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_execute()

    @work(exclusive=True)
    async def _execute(self, plan: Plan) -> None:
        self._is_dry_run = False
        self.outcomes.focus()
        self.outcomes.rows = []

        async def execute(session: Session) -> OperationResult:
            return await execute_plan(
                session,
                plan,
                actor=replace(session.actor, command=f"live: {self._action.name}"),
                report=lambda outcomes: self.app.call_from_thread(self._add_outcomes, outcomes),
            )

        self._job = self._service.begin(execute)
        self._show(f"{self._title}: 0 of {len(plan.steps)} …")
        try:
            self.result = await self._job.result()
        except SitegenError as exc:
            self._job = None
            self._show(f"{self._title}: failed", exc.message, exc.hint)
            return
        finally:
            self._service.poll_now()
        self.outcomes.rows = self.result.outcomes
        self._show(self._result_title(self.result), *self.result.notes, *self._hints(self.result.outcomes))

    def _add_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        if self._plan is not None and self.result is None:
            self.outcomes.rows = [*self.outcomes.rows, *outcomes]
            self._show(f"{self._title}: {len(self.outcomes.rows)} of {len(self._plan.steps)} …")

    def action_toggle_option(self, name: str) -> None:
        """Switch an option, and make the plan again."""
        if name in self._action.options and self._job is None:
            self._options ^= {name}
            self._make_plan()

    def action_leave(self) -> None:
        """Close; a plan that is being executed stops after its current batch instead."""
        if self.is_busy and self._job is not None:
            self._job.interrupt()
            self._show(f"{self._title}: completing the current batch …")
        else:
            # A plan that arrives while the screen is being removed would look for its widgets.
            self.workers.cancel_node(self)
            self.dismiss(self.result is not None)

    def action_move(self, rows: int) -> None:
        self.outcomes.action_move(rows)

    def action_page(self, pages: int) -> None:
        self.outcomes.action_page(pages)

    def on_live_table_opened(self, event: LiveTable.Opened) -> None:
        """Handle Enter, which is also a key of the table."""
        event.stop()
        self.action_execute_safe()

    def on_live_table_highlighted(self, event: LiveTable.Highlighted) -> None:
        event.stop()
        self._show_notes()

    def on_resize(self) -> None:
        self._show_notes()

    # --- texts --------------------------------------------------------------------------------------------

    def _cells(self, outcome: Outcome) -> Sequence[Cell]:
        # In a fix, each order has an action of its own.
        done = self._verbs.get(outcome.order_id, self._action.done)
        word = outcome_word(outcome, done, dry_run=self._is_dry_run)
        severity = _SEVERITIES.get(outcome.outcome, Severity.OK)
        is_skipped = outcome.outcome is OutcomeKind.SKIPPED
        return (
            Cell(text=str(outcome.order_id)),
            Cell(text=word, severity=severity, dim=is_skipped),
            Cell(text=outcome_text(outcome, word), dim=is_skipped),
        )

    @property
    def _title(self) -> str:
        orders = f"order {self._order_ids[0]}" if len(self._order_ids) == 1 else f"{len(self._order_ids)} orders"
        operation = self._operation.operation_id if self._operation is not None else None
        return " ".join(filter(None, (self._action.name, operation and f"{operation} of", orders)))

    def _plan_title(self, plan: Plan) -> str:
        if not plan.steps:
            return f"{self._title}: nothing to do"
        refused, others = len(plan.left_alone), len(self._order_ids) - len(plan.order_ids)
        rest = f", {refused} left alone" if refused else ""
        rest += f", {others} not affected" if others > 0 else ""
        return f"{self._title}? {len(plan.steps)} would be {self._action.done}{rest}"

    def _result_title(self, result: OperationResult) -> str:
        counts = Counter(outcome_word(outcome, self._action.done, dry_run=False) for outcome in result.outcomes)
        words = [f"{count} {word}" for word, count in counts.items()]
        return ", ".join([*words, "interrupted"] if result.interrupted else words)

    def _hints(self, outcomes: Sequence[Outcome]) -> list[str]:
        hints = dict.fromkeys(outcome.hint for outcome in outcomes if outcome.hint)
        return [f"hint: {hint_text(hint, self._settings.selector)}" for hint in list(hints)[:_MAX_HINTS]]

    def _show(self, title: str, *notes: Hint | None) -> None:
        colours = palette(self.app)
        context = Text()
        if self._settings.context:
            style = f"bold {colours['background']} on {colours['primary']}"
            context = Text.assemble((f" {neutralise(self._settings.context)} ", style), " ")
        self.query_one("#title", Static).update(Text.assemble(context, (title, "bold")))
        self._notes = [text for note in notes if (text := hint_text(note, self._settings.selector))]
        self._show_question()
        self.query_one("#keys", Static).update(self._keys())
        self._show_notes()

    def _show_question(self, problem: str = "") -> None:
        number = self._required_number
        question = self.query_one("#question", Static)
        question.display = self._number.display = number is not None
        text = f"{problem}Type {number} to reset {number} finished orders:"
        question.update(Text(text, palette(self.app)["warning"]))
        self._fit()

    def _show_notes(self) -> None:
        """Show the notes, below the text of the current row if the table truncates it."""
        colours = palette(self.app)
        row = self.outcomes.row
        lines = [Text(neutralise(note), colours["text-muted"]) for note in self._notes]
        if row is not None and self.outcomes.is_truncated(row):
            _, word, details = self._cells(row)
            lines.insert(0, Text(neutralise(f"{row.order_id} {word.text}: {details.text}")))
        notes = self.query_one("#notes", Static)
        notes.update(Text("\n").join(lines))
        notes.display = bool(lines)
        self._fit()

    def _fit(self) -> None:
        """Give the table the remaining height: the question and its keys are never cut off."""
        dialog, title, notes, question, keys = (
            self.query_one(f"#{name}") for name in ("dialog", "title", "notes", "question", "keys")
        )

        def height(part: Widget) -> int:
            if not part.display:
                return 0
            lines = part.get_content_height(self.size, self.app.size, dialog.size.width)
            return lines + part.styles.margin.height

        share = 1.0 if self.has_class("-narrow") or self.has_class("-low") else 0.85
        room = int(self.size.height * share) - dialog.gutter.height
        room -= sum(map(height, (title, keys, question, self._number)))
        table_lines = min(_MIN_LINES, len(self.outcomes.rows) + 1)
        notes_lines = min(height(notes), max(room - table_lines, 0))
        notes.styles.max_height = max(notes_lines - notes.styles.margin.height, 1)
        self.outcomes.styles.max_height = max(room - notes_lines, table_lines)

    def _keys(self) -> Text:
        keys: list[tuple[str, str, str]] = []
        if self.is_busy:
            keys.append(("esc", "stop after the current batch", "screen.leave"))
        else:
            if self.result is None and self._plan is not None and self._plan.steps:
                key = "y" if self._required_number is None else "enter"
                keys.append((key, self._action.name, "screen.execute"))
            if self._job is None:
                keys += [
                    (
                        key,
                        f"{text}: {'yes' if name in self._options else 'no'}",
                        f"screen.toggle_option('{name}')",
                    )
                    for name, (key, text) in _OPTIONS.items()
                    if name in self._action.options
                ]
            keys.append(("esc", "close", "screen.leave"))
        text = Text()
        for key, label, action in keys:
            click = {"@click": action}
            text.append(f" {key} ", Style(bold=True, color=palette(self.app)["accent"], meta=click))
            text.append(f"{label}  ", Style(meta=click))
        return text
