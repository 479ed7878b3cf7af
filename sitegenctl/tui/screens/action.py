"""An action's plan, the question, and then its outcomes as they come in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events, work
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, Static

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.diagnosis.remedy import Hint
from sitegenctl.domain.plans.plan import Plan
from sitegenctl.domain.plans.result import OperationResult, Outcome, OutcomeKind
from sitegenctl.errors import SitegenError
from sitegenctl.operations.bulk_plan import Selection
from sitegenctl.operations.execute import execute_plan, preview
from sitegenctl.render.command import hint_text
from sitegenctl.render.outcomes import outcome_text, outcome_word
from sitegenctl.render.text import neutralise
from sitegenctl.session import Session
from sitegenctl.tui.actions import Action, Choices
from sitegenctl.tui.service import Job, LiveService
from sitegenctl.tui.theme import palette
from sitegenctl.tui.widgets.live_table import Cell, Column, LiveTable

_COLUMNS = (
    Column(heading="order", width=7, number=True),
    Column(heading="", width=18),
    Column(heading="what"),
)

#: Rows of the plan, its headings included, that are shown in however little room.
_LEAST = 3

_SEVERITIES = {OutcomeKind.FAILED: Severity.FAULT, OutcomeKind.REFUSED: Severity.UNKNOWN}


class NumberInput(Input):
    """Takes digits only; other characters are keys of the screen."""

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """Whether the key is text here."""
        return _is_digit(character)

    def on_key(self, event: events.Key) -> None:
        """Leave everything but digits to the screen."""
        if event.is_printable and not _is_digit(event.character):
            event.prevent_default()


def _is_digit(character: str | None) -> bool:
    return character is not None and character.isascii() and character.isdigit()


class ActionScreen(ModalScreen[bool]):
    """Returns whether anything was done. Nothing is, before it was said to be."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "apply", "apply", tooltip="Do what the plan says"),
        Binding("enter", "apply_safe", "apply", show=False),
        Binding("t", "choose('terminate')", "stop running tasks"),
        Binding("f", "choose('force')", "force"),
        Binding("escape,n,q", "leave", "leave"),
        # Where the number is typed, the list does not have the focus.
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
    ]

    def __init__(
        self, action: Action, orders: Sequence[int], backstage: LiveService, *, place: str | None, selector: str | None
    ) -> None:
        super().__init__()
        self._action = action
        self._orders = orders
        self._backstage = backstage
        self._place_name = place
        self._selector = selector
        self._choices = Choices()
        self._plan: Plan | None = None
        self._verbs: Mapping[int, str] = {}
        self._errand: Job[OperationResult] | None = None
        self._through = 0
        self._result: OperationResult | None = None
        self._is_dry = True
        self._notes: list[str] = []

    def compose(self) -> Iterator[Widget]:
        """A title, the orders, what there is to know, and the keys."""
        with Vertical(id="dialog", classes="destroys" if self._destroys else ""):
            yield Static(id="title", markup=False)
            yield LiveTable(_COLUMNS, lambda outcome: outcome.order_id, self._cells, id="outcomes")
            yield Static(id="notes", markup=False)
            yield Static(id="question", markup=False)
            yield NumberInput(id="number", compact=True)
            keys = Static(id="keys", markup=False)
            keys.auto_links = False  # they look like keys already
            yield keys

    def on_mount(self) -> None:
        """Make the plan."""
        self._make_plan()

    @property
    def is_busy(self) -> bool:
        """Whether orders are being moved at this moment."""
        return self._errand is not None and self._result is None

    @property
    def _destroys(self) -> bool:
        """Whether something is taken away: then Enter alone does nothing."""
        return self._action.destroys or (self._plan is not None and self._plan.resets)

    # --- what it does -------------------------------------------------------------------------------------

    @work(exclusive=True)
    async def _make_plan(self) -> None:
        self._plan = None
        self._tell(f"{self._title()}: looking …")
        choices = self._choices

        async def plan(session: Session) -> Plan:
            await session.orders.require_writable()
            selection = Selection(order_ids=self._orders, named=self._action.names_orders)
            return await self._action.planner(choices).plan_all(session, selection)

        try:
            self._plan = await self._backstage.ask(plan)
        except SitegenError as exc:
            self._tell(f"{self._title()}: not possible now", exc.message, exc.hint)
            return
        self._verbs = {step.order_id: step.verb for step in self._plan.steps}
        seen = preview(self._plan)
        self._outcomes.show(list(seen.outcomes))
        self.query_one("#dialog").set_class(self._destroys, "destroys")
        if self._plan.number_to_type is not None:
            self._number.value = ""
            self._number.focus()
        self._tell(self._planned(self._plan), *self._plan.notes, *self._hints(seen.outcomes))

    def action_apply(self) -> None:
        """Carry the plan out."""
        if self._plan is None or not self._plan.steps or self._errand is not None:
            if self._result is not None or (self._plan is not None and not self._plan.steps):
                self.action_leave()
            return
        number = self._plan.number_to_type
        if number is not None and self._number.value != str(number):
            self._ask_for_number(wrong=self._number.value)
            self._number.value = ""
            self._number.focus()
            return
        self._carry_out(self._plan)

    def action_apply_safe(self) -> None:
        """Carry the plan out, if it destroys nothing: what does takes a key that nobody presses by mistake."""
        if self._result is not None or not self._destroys:
            self.action_apply()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Carry the plan out once its number is typed."""
        event.stop()
        self.action_apply()

    def action_move(self, by: int) -> None:
        """Move in the list."""
        self._outcomes.action_move(by)

    def action_page(self, by: int) -> None:
        """Move in the list by screens."""
        self._outcomes.action_page(by)

    def on_live_table_opened(self, event: LiveTable.Opened) -> None:
        """Enter is the table's key, too, and that has the focus; the orders behind are not gone to from here."""
        event.stop()
        self.action_apply_safe()

    def on_live_table_highlighted(self, event: LiveTable.Highlighted) -> None:
        """What has been cut in the list can be read below it."""
        event.stop()
        self._show_notes()

    def on_resize(self) -> None:
        """Where the list is narrower more of it is cut."""
        self._show_notes()

    @work(exclusive=True)
    async def _carry_out(self, plan: Plan) -> None:
        self._is_dry = False
        self._outcomes.focus()
        self._outcomes.show([])

        async def carry_out(session: Session) -> OperationResult:
            return await execute_plan(
                session,
                plan,
                actor=replace(session.actor, command=f"live: {self._action.name}"),
                report=lambda outcomes: self.app.call_from_thread(self._more, outcomes),
            )

        self._errand = self._backstage.begin(carry_out)
        self._tell(f"{self._title()}: 0 of {len(plan.steps)} …")
        try:
            self._result = await self._errand.outcome()
        except SitegenError as exc:
            self._errand = None
            self._tell(f"{self._title()}: failed", exc.message, exc.hint)
            return
        finally:
            self._backstage.look_now()
        self._outcomes.show(list(self._result.outcomes))
        self._tell(self._ended(self._result), *self._result.notes, *self._hints(self._result.outcomes))

    def _more(self, outcomes: Sequence[Outcome]) -> None:
        if self._plan is not None and self._result is None:
            self._through += len(outcomes)
            self._outcomes.show([*self._outcomes.rows, *outcomes])
            self._tell(f"{self._title()}: {self._through} of {len(self._plan.steps)} …")

    def action_choose(self, name: str) -> None:
        """Choose otherwise, and plan anew."""
        if name in self._action.choices and self._errand is None:
            self._choices = replace(self._choices, **{name: not getattr(self._choices, name)})
            self._make_plan()

    def action_leave(self) -> None:
        """Leave; while orders are being moved, end with the chunk in hand."""
        if self.is_busy:
            assert self._errand is not None  # noqa: S101 - then it is busy with that
            self._errand.interrupt()
            self._tell(f"{self._title()}: finishing the chunk in hand …")
        else:
            self.dismiss(self._result is not None)

    # --- what it shows ------------------------------------------------------------------------------------

    @property
    def _number(self) -> NumberInput:
        return self.query_one("#number", NumberInput)

    @property
    def _outcomes(self) -> LiveTable[Outcome]:
        return self.query_one("#outcomes", LiveTable)

    def _cells(self, outcome: Outcome) -> Sequence[Cell]:
        # Each order of a fix is told by what is done to it.
        done = self._verbs.get(outcome.order_id, self._action.done)
        word = outcome_word(outcome, done, dry_run=self._is_dry)
        severity = _SEVERITIES.get(outcome.outcome, Severity.OK)
        is_skipped = outcome.outcome is OutcomeKind.SKIPPED
        return (
            Cell(text=str(outcome.order_id)),
            Cell(text=word, severity=severity, dim=is_skipped),
            Cell(text=outcome_text(outcome, word), dim=is_skipped),
        )

    def _title(self) -> str:
        number = len(self._orders)
        return f"{self._action.verb} {f'order {self._orders[0]}' if number == 1 else f'{number} orders'}"

    def _planned(self, plan: Plan) -> str:
        if not plan.steps:
            return f"{self._title()}: nothing to do"
        left, others = len(plan.left_alone), len(self._orders) - len(plan.order_ids)
        rest = f", {left} left alone" if left else ""
        rest += f", {others} not affected" if others > 0 else ""
        return f"{self._title()}? {len(plan.steps)} would be {self._action.done}{rest}"

    def _ended(self, result: OperationResult) -> str:
        counts: dict[str, int] = {}
        for outcome in result.outcomes:
            word = outcome_word(outcome, self._action.done, dry_run=False)
            counts[word] = counts.get(word, 0) + 1
        told = ", ".join(f"{count} {word}" for word, count in counts.items())
        return f"{told}{', interrupted' if result.interrupted else ''}"

    def _hints(self, outcomes: Sequence[Outcome]) -> list[str]:
        hints = dict.fromkeys(outcome.hint for outcome in outcomes if outcome.hint)
        return [f"hint: {hint_text(hint, self._selector)}" for hint in list(hints)[:3]]

    def _tell(self, title: str, *notes: Hint | None) -> None:
        colours = palette(self.app)
        place = Text()
        if self._place_name:
            place.append(f" {neutralise(self._place_name)} ", f"bold {colours['background']} on {colours['primary']}")
            place.append(" ")
        self.query_one("#title", Static).update(Text.assemble(place, (title, "bold")))
        self._notes = [text for note in notes if (text := hint_text(note, self._selector))]
        self._ask_for_number()
        self.query_one("#keys", Static).update(self._keys())
        self._show_notes()

    def _ask_for_number(self, *, wrong: str = "") -> None:
        """Ask for the number of finished orders that the plan resets, where it has to be typed."""
        number = self._plan.number_to_type if self._plan is not None and self._errand is None else None
        question = self.query_one("#question", Static)
        question.display = self._number.display = number is not None
        problem = f"{wrong} is not {number}, nothing was changed. " if wrong else ""
        text = f"{problem}Type {number} to reset {number} finished orders:"
        question.update(Text(text, palette(self.app)["warning"]))
        self._fit()

    def _show_notes(self) -> None:
        colours = palette(self.app)
        row = self._outcomes.row
        told = [Text(neutralise(note), colours["text-muted"]) for note in self._notes]
        if row is not None and self._outcomes.has_cut(row):
            _, word, what = self._cells(row)
            told.insert(0, Text(neutralise(f"{row.order_id} {word.text}: {what.text}")))
        shown = self.query_one("#notes", Static)
        shown.update(Text("\n").join(told))
        shown.display = bool(told)
        self._fit()

    def _fit(self) -> None:
        """Give the list what is left: the question, and the keys that answer it, are never cut off."""
        dialog, title, notes, keys = (self.query_one(f"#{name}") for name in ("dialog", "title", "notes", "keys"))
        question = self.query_one("#question")

        def height(part: Widget) -> int:
            if not part.display:
                return 0
            lines = part.get_content_height(self.size, self.app.size, dialog.size.width)
            return lines + part.styles.margin.height

        share = 1.0 if self.has_class("-narrow") or self.has_class("-low") else 0.85
        room = int(self.size.height * share) - dialog.gutter.height - height(title) - height(keys)
        room -= height(question) + height(self._number)
        least = min(_LEAST, len(self._outcomes.rows) + 1)
        for_notes = min(height(notes), max(room - least, 0))
        notes.styles.max_height = max(for_notes - notes.styles.margin.height, 1)
        self._outcomes.styles.max_height = max(room - for_notes, least)

    def _keys(self) -> Text:
        colours = palette(self.app)
        text = Text()

        def key(name: str, words: str, action: str) -> None:
            # To be clicked on, too.
            text.append(f" {name} ", Style(bold=True, color=colours["accent"], meta={"@click": action}))
            text.append(f"{words}  ", Style(meta={"@click": action}))

        if self.is_busy:
            key("esc", "stop after the chunk in hand", "screen.leave")
            return text
        if self._result is None and self._plan is not None and self._plan.steps:
            needs_number = self._errand is None and self._plan.number_to_type is not None
            key("enter" if needs_number else "y", self._action.verb, "screen.apply")
        if self._errand is None:
            for name, letter, words in (("terminate", "t", "stop running tasks"), ("force", "f", "force")):
                if name in self._action.choices:
                    answer = "yes" if getattr(self._choices, name) else "no"
                    key(letter, f"{words}: {answer}", f"screen.choose('{name}')")
        key("esc", "leave", "screen.leave")
        return text
