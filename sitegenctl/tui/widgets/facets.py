"""How many orders are in each condition and status; choosing one filters the list by it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rich.text import Text
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from sitegenctl.domain.diagnosis.condition import Condition, Severity
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.tui.theme import palette

_COLOURS = {Severity.FAULT: "error", Severity.UNKNOWN: "warning", Severity.OK: ""}


class Facets(OptionList):
    """Conditions above, statuses below, each with its number; those that are chosen are marked."""

    DEFAULT_CSS = """
    Facets { width: 28; border: none; padding: 0; background: $background; scrollbar-size-vertical: 1; }
    Facets:focus { border: none; background: $surface; }
    """

    class Chosen(Message):
        """Somebody wants the list filtered by it, or not any more; ``word`` is what the filter says."""

        def __init__(self, word: str) -> None:
            super().__init__()
            self.word = word

    def show(
        self,
        conditions: Mapping[Condition, int],
        statuses: Mapping[OrderStatus | str | None, int],
        chosen: Collection[str],
    ) -> None:
        """Show these numbers; the cursor stays where it is."""
        lines = [
            (f"condition:{condition}", condition.value, count, condition.severity)
            for condition, count in sorted(
                conditions.items(), key=lambda each: list(Severity)[::-1].index(each[0].severity)
            )
            if count
        ]
        lines += [
            (f"status:{status.lower()}", status.lower().replace("_", " "), count, Severity.OK)
            for status in OrderStatus
            if (count := statuses.get(status, 0))
        ]
        known = [option.id for option in self.options if option.id is not None]
        prompts = {word: self._prompt(name, count, severity, word in chosen) for word, name, count, severity in lines}
        if known == list(prompts):
            for word, prompt in prompts.items():
                if self.get_option(word).prompt != prompt:
                    self.replace_option_prompt(word, prompt)
            return
        at = self.highlighted_option.id if self.highlighted_option is not None else None
        self.clear_options()
        groups = (
            [
                Option(prompt, id=word)
                for word, prompt in prompts.items()
                if word.startswith("condition:") is is_condition
            ]
            for is_condition in (True, False)
        )
        for group in groups:
            if group:
                # A line between the two kinds.
                self.add_options([*([None] if self.options else []), *group])
        self.highlighted = self.get_option_index(at) if at in prompts else None

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Say which word the filter gets or loses."""
        event.stop()
        if event.option_id is not None:
            self.post_message(self.Chosen(event.option_id))

    def _prompt(self, name: str, count: int, severity: Severity, is_chosen: bool) -> Text:
        colour = palette(self.app).get(_COLOURS[severity] or "foreground", "")
        mark = "●" if is_chosen else " "
        return Text.assemble(
            (f"{mark} ", "bold"), (f"{name:<18.18}", f"bold {colour}" if is_chosen else colour), f"{_short(count):>5}"
        )


def _short(count: int) -> str:
    return str(count) if count < 100_000 else f"{count / 1000:.0f}k" if count < 10_000_000 else f"{count / 1e6:.0f}M"
