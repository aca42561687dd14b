"""A task that asks a person in Airflow's UI, and goes on as that person chose.

While it waits, no worker and no triggerer has it. Nobody is asked twice: what a task that was killed had been answered
counts when it is tried again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias
from urllib.parse import quote

from airflow.providers.standard.operators.hitl import HITLBranchOperator
from airflow.sdk import Context, Param
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import TaskAwaitingInput

from ltr_pipeline.airflow.runtime import gate_variables, run_settings
from ltr_pipeline.gate.policy import Policy

if TYPE_CHECKING:
    from uuid import UUID

    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from ltr_pipeline.gate.approval import Choice
    from ltr_pipeline.settings import Settings

__all__ = ["AskAboutSegments", "AskAboutWeights"]

Handed: TypeAlias = Any
"""What a task hands on, as JSON."""

KEEP: Final = "Keep"
REASON: Final = "reason"
MARGIN: Final = timedelta(minutes=30)
"""Part of the run's time limit that is left for what follows an answer."""

STALE: Final = (
    "Airflow still shows the question about a former judgement and cannot show another one in the same run, so nobody "
    "was asked; trigger a new run for this day"
)


class Matter(Protocol):
    """What is asked about: a module of the jobs."""

    def begin(self, handed: Handed, question: str, settings: Settings | None = None) -> dict[str, Any] | None:
        """Return what to ask, or what has been chosen already; None where there is no question."""

    def tell(self, handed: Handed, question: str, link: str, until: datetime, settings: Settings | None = None) -> None:
        """Tell people that they are asked."""

    def answer(
        self,
        handed: Handed,
        question: str,
        *,
        choice: Choice,
        who: str,
        why: str,
        unheard: str | None = None,
        settings: Settings | None = None,
    ) -> Choice:
        """Store an answer, and return what follows."""


class _Ask(HITLBranchOperator):
    """Ask, wait for the answer, and branch.

    Parameters
    ----------
    about
        What the task before handed on.
    approve
        The option that changes something; the other one is `KEEP`.
    approved, kept
        Ids of the tasks that follow each.
    """

    template_fields = (*HITLBranchOperator.template_fields, "about")

    def __init__(self, *, about: Handed, approve: str, approved: str, kept: str, **kwargs: object) -> None:
        # A form that demands a text would fail the task before it asks; those of the DAG are none of the form's.
        kwargs["params"] = {
            REASON: Param(
                None,
                type=["null", "string"],
                title="Reason",
                description=f"{approve} needs a reason: without one nothing changes. It is recorded with your name.",
            )
        }
        super().__init__(
            subject="A person decides",  # what it is really about is known when it is asked
            options=[approve, KEEP],
            defaults=[KEEP],
            options_mapping={approve: approved, KEEP: kept},
            response_timeout=timedelta(minutes=90),  # replaced by that of ltr_approval_minutes
            **kwargs,
        )
        self.about = about
        self.approve = approve

    def matter(self) -> Matter:
        """Return what is asked about, imported when a task runs."""
        raise NotImplementedError

    def execute(self, context: Context) -> object:
        """Ask, unless there is nothing to ask, nobody can be asked, or it was answered."""
        asked = self.matter().begin(self.about, _question(context), run_settings())
        if asked is None:
            return self.do_branch(context, None)
        if choice := asked.get("choice"):
            return self._go_on(context, choice)
        if _is_at_hand():
            self.log.info("Nobody can be asked: this run has no scheduler that would end the question.")
            return self._go_on(context, "keep")
        instance, question = context["ti"], _question(context)
        if asked["until"]:
            # A try before has asked, and was killed. What was answered since, Airflow hands over at once.
            until = datetime.fromisoformat(asked["until"])
        else:
            self.subject, self.body = asked["subject"], asked["body"]
            if not self._shown(instance.id):
                return self._conclude(context, choice="keep", unheard=STALE)
            until = _before_limit(context, datetime.now(UTC) + _patience())
            self.matter().tell(self.about, question, _link(instance), until, run_settings())
        self.hitl_summary_extra["timeout_datetime"] = until.isoformat()
        self.log.info("A person is asked until %s: %s", until, _link(instance))
        left = max(until - datetime.now(UTC), timedelta(minutes=1))
        raise TaskAwaitingInput(method_name="execute_complete", timeout=left)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> object:
        """Store the answer and go on as it says."""
        if "error" in event:
            self.process_trigger_event_error(event)
        user = event.get("responded_by_user") or {}
        late = bool(event.get("timedout")) or not user
        chosen: Choice = "publish" if self.approve in event["chosen_options"] else "keep"
        return self._conclude(
            context,
            choice=chosen,
            who=str(user.get("name") or user.get("id") or ""),
            why=str((event.get("params_input") or {}).get(REASON) or ""),
            unheard="" if late else None,
        )

    def _conclude(
        self,
        context: Context,
        *,
        choice: Choice,
        who: str = "",
        why: str = "",
        unheard: str | None = None,
    ) -> object:
        counts = self.matter().answer(
            self.about, _question(context), choice=choice, who=who, why=why, unheard=unheard, settings=run_settings()
        )
        return self._go_on(context, counts)

    def _go_on(self, context: Context, choice: Choice) -> object:
        option = self.approve if choice == "publish" else KEEP
        return self.do_branch(context, self.options_mapping[option])

    def _shown(self, instance: UUID) -> bool:
        """Show the question, and return whether people see this one.

        A task that is tried again or cleared keeps the question that it asked first, and Airflow does not replace it:
        nobody may be shown the figures of a former judgement and decide about another.
        """
        from airflow.sdk.execution_time import task_runner
        from airflow.sdk.execution_time.comms import CreateHITLDetailPayload

        shown = task_runner.SUPERVISOR_COMMS.send(
            CreateHITLDetailPayload(
                ti_id=instance,
                options=self.options,
                subject=self.subject,
                body=self.body,
                defaults=self.defaults,
                params=self.serialized_params,
                multiple=self.multiple,
                assigned_users=[],
            )
        )
        return (getattr(shown, "subject", ""), getattr(shown, "body", "")) == (self.subject, self.body)


class AskAboutWeights(_Ask):
    """Ask whether to publish what the gate cannot decide."""

    def matter(self) -> Matter:
        """Return the question about weights."""
        from ltr_pipeline.jobs import approval

        return approval


class AskAboutSegments(_Ask):
    """Ask whether new segments take the place of those in use, with which they agree too little."""

    def matter(self) -> Matter:
        """Return the question about segments."""
        from ltr_pipeline.jobs import segment_approval

        return segment_approval


def _patience() -> timedelta:
    """Return how long a person has time to answer, by the Variable as it is now."""
    values = {name: value for name, value in gate_variables().items() if name == "ltr_approval_minutes"}
    return timedelta(minutes=Policy.from_variables(values).approval_minutes)


def _question(context: Context) -> str:
    """Return the id of the question: a retry asks the same one, a run that a person cleared asks anew."""
    run = context["dag_run"]
    return f"{run.run_id}/{run.clear_number or 0}"


def _is_at_hand() -> bool:
    """Tell whether ``dag.test()`` runs this task: it would wait for an answer for ever."""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.supervisor import InProcessSupervisorComms

    return isinstance(task_runner.SUPERVISOR_COMMS, InProcessSupervisorComms)


def _before_limit(context: Context, until: datetime) -> datetime:
    """Return when the time for an answer is over: early enough for the run to end within its limit."""
    limit, begun = context["dag"].dagrun_timeout, context["dag_run"].start_date
    return min(until, begun + limit - MARGIN) if limit and begun else until


def _link(instance: RuntimeTaskInstanceProtocol) -> str:
    """Return where the question is answered, also where Airflow has a prefix, such as behind a proxy."""
    base = str(conf.get("api", "base_url", fallback="") or "http://localhost:8080").rstrip("/")
    run = quote(instance.run_id, safe="")
    return f"{base}/dags/{instance.dag_id}/runs/{run}/tasks/{instance.task_id}/required_actions?map_index=-1"
