"""Numbers of orders by condition and status, and of late ones. Choosing one filters the list by it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rich.text import Text
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from sitegenctl.domain.diagnosis.condition import Condition, Severity
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.orders.promise import PromiseCounts
from sitegenctl.tui.widgets.look import palette

_COLOURS = {Severity.FAULT: "error", Severity.UNKNOWN: "warning", Severity.OK: "foreground"}


class Facets(OptionList):
    """Conditions, then statuses, then late orders. The ones that the list is filtered by are marked."""

    DEFAULT_CSS = """
    Facets { width: 28; border: none; padding: 0; background: $background; scrollbar-size-vertical: 1; }
    Facets:focus { border: none; background: $surface; }
    """

    @dataclass
    class Chosen(Message):
        """The user chose a facet; ``word`` is its filter word."""

        word: str

    def show(
        self,
        by_condition: Mapping[Condition, int],
        by_status: Mapping[OrderStatus | str | None, int],
        promises: PromiseCounts | None,
        words: Collection[str],
    ) -> None:
        """Show these numbers; ``words`` are those of the filter. The cursor stays on its facet."""
        severities = list(Severity)[::-1]
        conditions = sorted(by_condition.items(), key=lambda item: severities.index(item[0].severity))
        facets = [(f"condition:{each}", each.value, count, _COLOURS[each.severity]) for each, count in conditions]
        facets += [
            (f"status:{each.lower()}", each.lower().replace("_", " "), by_status.get(each, 0), "foreground")
            for each in OrderStatus
        ]
        facets += [("late", "late", promises.late, "error")] if promises is not None else []
        prompts = {
            word: self._prompt(name, count, colour, word in words) for word, name, count, colour in facets if count
        }
        if [option.id for option in self.options if option.id is not None] == list(prompts):
            for word, prompt in prompts.items():
                if self.get_option(word).prompt != prompt:
                    self.replace_option_prompt(word, prompt)
            return
        cursor = self.highlighted_option.id if self.highlighted_option is not None else None
        options: list[Option | None] = [Option(prompt, id=word) for word, prompt in prompts.items()]
        number = sum(word.startswith("condition:") for word in prompts)
        if 0 < number < len(options):
            options.insert(number, None)  # a separator
        self.clear_options()
        self.add_options(options)
        self.highlighted = self.get_option_index(cursor) if cursor in prompts else None

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id is not None:
            self.post_message(self.Chosen(event.option_id))

    def _prompt(self, name: str, count: int, colour_name: str, is_chosen: bool) -> Text:
        colour = palette(self.app)[colour_name]
        return Text.assemble(
            ("● " if is_chosen else "  ", "bold"),
            (f"{name:<18.18}", f"bold {colour}" if is_chosen else colour),
            f"{_short(count):>5}",
        )


def _short(count: int) -> str:
    if count < 100_000:
        return str(count)
    return f"{count / 1000:.0f}k" if count < 10_000_000 else f"{count / 1e6:.0f}M"
