"""The operator's page: what is asked of the fleet, the forms to ask, the emergency stop, and approvals."""

from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Form, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from cloud.api import dispatch_words as words
from cloud.api.emergency import Emergency
from cloud.api.live import Live
from cloud.api.rendering import Field, Renderer, page_router, utc_text
from cloud.api.sessions import PageViewer, page_needs
from cloud.dispatch import asking
from cloud.model.access import Permission, Principal
from cloud.model.dispatch import Activation, DispatchRefused
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger

PATH: Final = "/dispatch"
_ACTIVATIONS: Final = 20
_ORDERS: Final = 50

Dispatcher = Annotated[Principal, page_needs(Permission.DISPATCH)]
Stopper = Annotated[Principal, page_needs(Permission.STOP)]
SecondPerson = Annotated[Principal, page_needs(Permission.APPROVE)]
PowerKw = Annotated[float, Form(ge=-asking.MOST_W / 1000, le=asking.MOST_W / 1000, allow_inf_nan=False)]
LimitKw = Annotated[float, Form(ge=0, le=asking.MOST_W / 1000, allow_inf_nan=False)]
Minutes = Annotated[float, Form(gt=0, le=asking.LONGEST_MINUTES, allow_inf_nan=False)]


class DispatchPage:
    """`router` holds the routes. What moves power or lifts a stop is confirmed on a second page; a stop is not."""

    def __init__(
        self, ledger: Ledger, live: Live, emergency: Emergency, renderer: Renderer, now_ms: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._live = live
        self._emergency = emergency
        self._renderer = renderer
        self._now_ms = now_ms
        self.router = page_router(
            PATH,
            self.dispatch,
            {
                "activate": self.activate,
                "setpoint": self.setpoint,
                "envelope": self.envelope,
                "end": self.end,
                "stop": self.stop,
                "stop/lift": self.lift,
                "approvals/answer": self.answer,
            },
        )

    def dispatch(self, request: Request, person: PageViewer) -> Response:
        return self._page(request, person)

    def activate(
        self,
        request: Request,
        person: Dispatcher,
        group: Field,
        power_kw: PowerKw,
        minutes: Minutes,
        reason: Field,
        confirmed: Field = "",
    ) -> Response:
        try:
            wanted = asking.activation(
                group=group,
                power_w=round(power_kw * 1000),
                minutes=minutes,
                reason=reason,
                actor=person.actor,
                now_ms=self._now_ms(),
            )
            if confirmed:
                self._ledger.add_activation(wanted)
                return RedirectResponse(PATH, HTTPStatus.SEE_OTHER)
            self._ledger.check_activation(wanted)
            says = words.of_activation(wanted, minutes, self._ledger.sites(), self._measured_w().get(group))
        except (DispatchRefused, LedgerError) as refusal:
            return self._refused(request, person, refusal)
        form = {"group": group, "power_kw": power_kw, "minutes": minutes, "reason": reason}
        return self._confirm(request, person, "Activate a group", f"{PATH}/activate", says, form)

    def setpoint(
        self,
        request: Request,
        person: Dispatcher,
        site: Field,
        power_kw: PowerKw,
        minutes: Minutes,
        reason: Field,
        confirmed: Field = "",
    ) -> Response:
        try:
            orders = asking.setpoints(
                [site],
                power_w=round(power_kw * 1000),
                minutes=minutes,
                reason=reason,
                actor=person.actor,
                now_ms=self._now_ms(),
            )
            if confirmed:
                asking.give(self._ledger, orders)
                return RedirectResponse(PATH, HTTPStatus.SEE_OTHER)
            known = self._ledger.site(site)
            if known is None:
                raise DispatchRefused(f"site {site!r} is unknown: take one from the live page")
            stop = self._ledger.latest_intent(site, "stop")
            stopped = stop is not None and words.is_stopped(stop, self._now_ms())
            says = words.of_setpoint(known, power_kw * 1000, minutes, stopped=stopped)
        except (DispatchRefused, LedgerError) as refusal:
            return self._refused(request, person, refusal)
        form = {"site": site, "power_kw": power_kw, "minutes": minutes, "reason": reason}
        return self._confirm(request, person, "Setpoint for a site", f"{PATH}/setpoint", says, form)

    def envelope(
        self,
        request: Request,
        person: Dispatcher,
        scope: Field,
        import_kw: LimitKw,
        export_kw: LimitKw,
        minutes: Minutes,
        site: Field = "",
        group: Field = "",
        confirmed: Field = "",
    ) -> Response:
        name, now_ms = (site if scope == "site" else group).strip(), self._now_ms()
        limits = asking.Unit(
            start_ms=now_ms,
            minutes=minutes,
            import_limit_w=round(import_kw * 1000),
            export_limit_w=round(export_kw * 1000),
        )
        try:
            if scope not in ("site", "each-of", "group") or not name:
                raise DispatchRefused("envelope: whom? name a site, or a group")
            registry = self._ledger.sites()
            if not any(each.site == name if scope == "site" else name in each.groups for each in registry):
                kind = "site" if scope == "site" else "group"
                raise DispatchRefused(f"{kind} {name!r} is unknown: see the live page")
            if confirmed:
                asking.give_limits(self._ledger, scope, name, [limits], actor=person.actor, now_ms=now_ms)
                return RedirectResponse(PATH, HTTPStatus.SEE_OTHER)
        except (DispatchRefused, LedgerError) as refusal:
            return self._refused(request, person, refusal)
        says = words.of_envelope(scope, name, limits.import_limit_w, limits.export_limit_w, minutes, registry)
        form = {
            "scope": scope,
            "site": site,
            "group": group,
            "import_kw": import_kw,
            "export_kw": export_kw,
            "minutes": minutes,
        }
        return self._confirm(request, person, "Set an envelope", f"{PATH}/envelope", says, form)

    def end(self, request: Request, person: Dispatcher, activation: Field) -> Response:
        try:
            self._ledger.end_activation(activation, self._now_ms(), person.actor)
        except LedgerError as refusal:
            return self._refused(request, person, refusal)
        return RedirectResponse(PATH, HTTPStatus.SEE_OTHER)

    async def stop(
        self, request: Request, person: Stopper, scope: Field, reason: Field, site: Field = "", group: Field = ""
    ) -> Response:
        return await self._order_stop(request, person, True, reason, _whom(scope, site, group))

    async def lift(
        self,
        request: Request,
        person: Stopper,
        scope: Field,
        reason: Field,
        site: Field = "",
        group: Field = "",
        confirmed: Field = "",
    ) -> Response:
        whom = _whom(scope, site, group)
        if confirmed:
            return await self._order_stop(request, person, False, reason, whom)
        try:
            asking.checked_reason(reason)
            sites, _ = await self._emergency.whom(whom.sites, whom.groups, everybody=whom.everybody)
            stopped = await run_in_threadpool(self._stopped)
        except (DispatchRefused, LedgerError) as refusal:
            return await run_in_threadpool(self._refused, request, person, refusal)
        says = words.of_lift(sites, [each.site for each in stopped])
        form = {"scope": scope, "site": site, "group": group, "reason": reason}
        return await run_in_threadpool(self._confirm, request, person, "Lift the stop", f"{PATH}/stop/lift", says, form)

    def answer(
        self, request: Request, person: SecondPerson, number: Annotated[int, Form(ge=1, lt=2**31)], verdict: Field
    ) -> Response:
        try:
            if verdict not in ("grant", "deny"):
                raise DispatchRefused("the verdict is grant or deny")
            self._ledger.answer_approval(number, grant=verdict == "grant", now_ms=self._now_ms(), actor=person.actor)
        except (DispatchRefused, LedgerError) as refusal:
            return self._refused(request, person, refusal)
        return RedirectResponse(PATH, HTTPStatus.SEE_OTHER)

    async def _order_stop(
        self, request: Request, person: Principal, stop: bool, reason: str, whom: words.Whom
    ) -> Response:
        try:
            told = await self._emergency.order(
                stop=stop,
                reason=reason,
                sites=whom.sites,
                groups=whom.groups,
                everybody=whom.everybody,
                actor=person.actor,
            )
        except (DispatchRefused, LedgerError) as refusal:
            return await run_in_threadpool(self._refused, request, person, refusal)
        done, problem = words.of_told(told, stop=stop)
        status = HTTPStatus.SERVICE_UNAVAILABLE if told.failures else HTTPStatus.OK
        return await run_in_threadpool(self._page, request, person, status, problem=problem, done=done)

    def _refused(self, request: Request, person: Principal, refusal: Exception) -> Response:
        return self._page(request, person, HTTPStatus.UNPROCESSABLE_ENTITY, problem=str(refusal))

    def _confirm(
        self,
        request: Request,
        person: Principal,
        title: str,
        action: str,
        says: words.Says,
        form: Mapping[str, object],
    ) -> Response:
        return self._renderer.page(
            request, "dispatch_confirm.html", person, title=title, action=action, says=says, form=form, back=PATH
        )

    def _measured_w(self) -> dict[str, float]:
        """What each group's inverters measure together now [W], of the sites that are heard."""
        found: dict[str, float] = {}
        powers_w = self._live.columns().inverter_power_w
        for groups, power_w in zip(self._live.roster().groups, powers_w, strict=True):
            for group in groups if power_w is not None else ():
                found[group] = found.get(group, 0.0) + float(power_w or 0)
        return found

    def _stopped(self) -> list[words.Stopped]:
        now_ms = self._now_ms()
        return [words.stopped(each) for each in self._ledger.latest_intents("stop") if words.is_stopped(each, now_ms)]

    def _page(
        self,
        request: Request,
        person: Principal,
        status: HTTPStatus = HTTPStatus.OK,
        *,
        problem: str = "",
        done: str = "",
    ) -> Response:
        now_ms, measured_w = self._now_ms(), self._measured_w()

        def activation(each: Activation) -> words.ActivationRow:
            return words.activation_row(each, measured_w.get(each.group), now_ms)

        return self._renderer.page(
            request,
            "dispatch.html",
            person,
            status,
            problem=problem,
            done=done,
            at=utc_text(now_ms),
            now_ms=now_ms,
            utc=utc_text,
            kw=words.kw,
            activations=[activation(each) for each in self._ledger.activations(limit=_ACTIVATIONS)],
            orders=[words.order_row(told) for told in asking.order_states(self._ledger, _ORDERS)],
            limits=list(self._ledger.group_limits(now_ms).values()),
            approvals=self._ledger.recent_approvals(now_ms),
            may_grant=partial(self._ledger.may_grant, person.actor),
            stopped=self._stopped(),
            groups=sorted({group for groups in self._live.roster().groups for group in groups}),
            any_site=bool(self._live.roster().sites),
            longest_minutes=int(asking.LONGEST_MINUTES),
        )


def _whom(scope: str, site: str, group: str) -> words.Whom:
    """What the form's choice means; what stands in the fields that were not chosen does not count."""
    return words.Whom(
        sites=[site.strip()] if scope == "site" and site.strip() else [],
        groups=[group.strip()] if scope == "group" and group.strip() else [],
        everybody=scope == "all",
    )
