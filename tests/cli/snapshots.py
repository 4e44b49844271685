"""Flows as they look in every state, for the tests of what the command line shows. Times are fixed, so pictures are too."""

from __future__ import annotations

import msgspec

from flowq.model.artifact import Artifact
from flowq.model.failure import Failure
from flowq.model.snapshot import AttemptSnapshot, FlowSnapshot, FlowSummary, ItemsSnapshot, Reason, StageSnapshot

T0 = 1_795_309_323_456  # 2026-11-22T01:02:03.456Z
FOLDER = "media/short%3A42/"


def stage(
    name: str, state: str, children: tuple[str, ...] = (), *, start: float | None = None, run: float | None = None, **more: object
) -> StageSnapshot:
    """A stage; `start` in seconds after the flow was added."""
    fields: dict[str, object] = {"stage": name, "queue": "cpu", "attempts": 3, **more}
    if start is not None:
        fields |= {"started_at": T0 + round(start * 1000), "run_seconds": run, "worker": fields.get("worker", "host-1:2")}
        fields.setdefault("attempt", 1)
        fields.setdefault("wait_seconds", 0.1)
        if state in ("completed", "failed"):
            fields["ended_at"] = T0 + round((start + (run or 0)) * 1000)
    return StageSnapshot(name=name, state=state, children=children, **fields)  # type: ignore[arg-type]


def flow(state: str, stages: tuple[StageSnapshot, ...], seconds: float, **more: object) -> FlowSnapshot:
    """A flow that was added at T0 and is looked at, or ended, `seconds` later."""
    done = [item for item in stages if item.is_final and item.state != "cancelled"]
    fields: dict[str, object] = {
        "id": "short:42",
        "pipeline": "short_video",
        "created_at": T0,
        "at": T0 + round(seconds * 1000),
        "ended_at": T0 + round(seconds * 1000) if state in ("completed", "failed", "cancelled") else None,
        "stages": len(stages),
        "finished": len(done),
        "failed": sum(item.state == "failed" for item in stages),
        "progress": len(done) / max(1, len(stages)),
        "inputs": {"url": "https://example.org/clip.mp4", "height": 720},
        "graph": stages,
        **more,
    }
    return FlowSnapshot(state=state, **fields)  # type: ignore[arg-type]


DOWNLOAD = stage(
    "download",
    "completed",
    start=0.2,
    run=12.1,
    is_critical=True,
    attempts=5,
    artifacts=(Artifact(FOLDER + "download/7:c0ffee/source.mp4", 38_000_000),),
)
PROBE = stage("probe", "completed", ("download",), start=12.4, run=0.8, result={"width": 1920, "height": 1080})
EXTRACT = stage(
    "extract_audio",
    "completed",
    ("download",),
    start=12.4,
    run=6.2,
    artifacts=(Artifact(FOLDER + "extract_audio/8:c0ffee/audio.flac", 3_800_000),),
)
RETRIED_RUN = AttemptSnapshot(1, "retried", "host-1:2", T0 + 19_000, 8.0, "ConnectionResetError: peer went away")

RUNNING = flow(
    "running",
    (
        DOWNLOAD,
        PROBE,
        EXTRACT,
        stage(
            "transcribe",
            "running",
            ("extract_audio",),
            start=31.6,
            run=28.4,
            wait_seconds=2.0,
            attempt=2,
            progress=0.61,
            message="segment 31 of 50",
            failure=Failure("ConnectionResetError", "peer went away"),
            history=(RETRIED_RUN,),
        ),
        stage(
            "encode", "running", ("download",), start=13, run=47, progress=0.72, message="fps=212 speed=7.1x", is_critical=True
        ),
        stage(
            "encode-2",
            "ready",
            ("download",),
            stage="encode",
            ready_at=T0 + 13_000,
            reason=Reason("no_worker", "no worker serves queue gpu", ("gpu",)),
        ),
        stage("finalize", "blocked", ("encode", "encode-2", "transcribe"), is_critical=True),
    ),
    60,
    eta_seconds=18.2,
    tenant="acme",
    tags=("beta",),
    critical_path=("download", "encode", "finalize"),
)
RETRYING = flow(
    "running",
    (
        DOWNLOAD,
        stage(
            "transcribe",
            "scheduled",
            ("download",),
            attempt=1,
            ready_at=T0 + 33_500,
            failure=Failure("ConnectionResetError", "peer went away"),
            history=(RETRIED_RUN,),
        ),
        stage("finalize", "blocked", ("transcribe",)),
    ),
    29,
)
FAILED = flow(
    "failed",
    (
        DOWNLOAD,
        PROBE,
        stage(
            "encode",
            "failed",
            ("download",),
            start=40,
            run=3.2,
            attempt=3,
            is_critical=True,
            failure=Failure(
                "ProgramFailed",
                "ffmpeg ended with exit code 1: Unknown encoder 'libx265'",
                'Traceback (most recent call last):\n  File "pipelines.py", line 31, in encode\n    context().run(argv)\n'
                "ProgramFailed: ffmpeg ended with exit code 1: Unknown encoder 'libx265'",
            ),
            history=(
                AttemptSnapshot(1, "retried", "host-1:2", T0 + 13_000, 3.0, "ProgramFailed"),
                AttemptSnapshot(2, "retried", "host-1:2", T0 + 24_000, 3.1, "ProgramFailed"),
            ),
        ),
        stage("finalize", "blocked", ("encode", "probe"), reason=Reason("flow_ended", "encode has failed", ("encode",))),
    ),
    43.2,
    root_cause="encode",
    critical_path=("download", "encode"),
)
BLOCKED = flow(
    "ready",
    (
        stage(
            "download",
            "ready",
            ready_at=T0,
            queue="network",
            reason=Reason("no_worker", "no worker that knows stage download serves queue network", ("network",)),
        ),
        stage("encode", "blocked", ("download",)),
        stage("transcribe", "blocked", ("download",)),
        stage("finalize", "blocked", ("encode", "transcribe")),
    ),
    125,
)
SUSPENDED = flow(
    "suspended",
    (
        DOWNLOAD,
        stage(
            "approved",
            "suspended",
            ("download",),
            start=12.4,
            run=0.1,
            reason=Reason("signal", "waits for signal approved until 2026-11-25 01:02:16 UTC", ("approved",)),
        ),
        stage("publish", "blocked", ("approved",), reason=Reason("children", "waits for approved", ("approved",))),
    ),
    3_600,
    parent="season:7^episodes.0123456789abcdef",
    spawned=(
        FlowSummary(
            id="short:42^download.1122334455667788", pipeline="mirror", state="completed", created_at=T0, stages=2, finished=2
        ),
        FlowSummary(
            id="short:42^download.99aabbccddeeff00", pipeline="mirror", state="running", created_at=T0, stages=2, finished=1
        ),
    ),
)
COMPLETED = flow(
    "completed",
    (
        DOWNLOAD,
        stage("encode", "completed", ("download",), start=12.4, run=30, is_critical=True, crashes=1, runs=2),
        stage(
            "finalize",
            "completed",
            ("encode", "download"),
            start=42.5,
            run=1.25,
            is_critical=True,
            artifacts=(
                Artifact(FOLDER + "finalize/9:c0ffee/short.mp4", 12_340_000),
                Artifact(FOLDER + "finalize/9:c0ffee/manifest.json", 812),
            ),
        ),
    ),
    43.75,
    critical_path=("download", "encode", "finalize"),
    result={"video": FOLDER + "finalize/9:c0ffee/short.mp4", "seconds": 14.2},
)
CANCELLED = flow(
    "cancelled",
    (DOWNLOAD, stage("encode", "cancelled", ("download",)), stage("finalize", "cancelled", ("encode",))),
    20,
    cancel_reason="user closed the tab",
)


def _wide() -> FlowSnapshot:
    encodes = [
        stage(
            "encode" if number == 1 else f"encode-{number}",
            "completed",
            ("split",),
            stage="encode",
            start=1 + number % 50,
            run=1.5,
        )
        for number in range(1, 9_900)
    ]
    encodes += [
        stage(f"encode-{number}", "running", ("split",), stage="encode", start=58, run=2, progress=0.5)
        for number in range(9_900, 9_995)
    ]
    encodes += [
        stage(
            f"encode-{number}",
            "failed",
            ("split",),
            stage="encode",
            start=50,
            run=1,
            attempt=3,
            failure=Failure("ValueError", "bad frame"),
        )
        for number in range(9_995, 9_999)
    ]
    last = stage("join", "blocked", tuple(item.name for item in encodes))
    return flow(
        "running",
        (stage("split", "completed", start=0.1, run=0.8), *encodes, last),
        60,
        id="wide",
        inputs={"frames": 10_000},
        root_cause="encode-9995",
    )


WIDE = _wide()

# What an attacker, or a careless program, may put into any text: every control, and what moves or hides text.
HOSTILE = (
    "".join(map(chr, range(0xA0)))
    + "\u202e\u2066\u200b\ufeff\u2028\ud800[red]x[/foo][link=http://x]y\x1b]8;;http://x\x07z\x1b[2J"
)


def hostile() -> FlowSnapshot:
    """A flow with hostile text in every field that holds text."""
    evil = stage(
        HOSTILE,
        "failed",
        start=1,
        run=1,
        stage=HOSTILE,
        queue=HOSTILE,
        worker=HOSTILE,
        message=HOSTILE,
        result={HOSTILE: HOSTILE},
        reason=Reason("busy", HOSTILE, (HOSTILE,)),
        failure=Failure(HOSTILE, HOSTILE, HOSTILE),
        artifacts=(Artifact(HOSTILE, 1, HOSTILE, HOSTILE),),
        history=(AttemptSnapshot(1, "retried", HOSTILE, T0, 1.0, HOSTILE),),
    )
    states = ("running", "ready", "scheduled", "blocked", "completed", "cancelled", "skipped", "suspended")
    others = tuple(
        msgspec.structs.replace(
            evil, name=f"{HOSTILE}{state}", state=state, children=(HOSTILE, f"{HOSTILE}running")[: 1 + (state == "blocked")]
        )
        for state in states
    )
    return flow(
        "failed",
        (evil, *others),
        5,
        id=HOSTILE,
        pipeline=HOSTILE,
        tenant=HOSTILE,
        tags=(HOSTILE,),
        inputs={HOSTILE: HOSTILE},
        result=HOSTILE,
        cancel_reason=HOSTILE,
        root_cause=HOSTILE,
        critical_path=(HOSTILE, HOSTILE),
    )


_CHUNKS = tuple(f"encode[{number}]" for number in (17, 93))
MAPPED = flow(
    "running",
    (
        stage("split", "completed", start=0.2, run=4.1),
        stage(
            "encode",
            "suspended",
            ("split",),
            start=4.5,
            run=55.5,
            progress=233 / 240,
            reason=Reason("items", "waits for 7 running and 0 waiting of 240"),
            items=ItemsSnapshot(
                count=240,
                completed=231,
                running=7,
                failed=2,
                waiting=0,
                need=240,
                at_once=0,
                first_failed=_CHUNKS[0],
                listed=tuple(
                    stage(name, "failed", start=9.0, run=2.0, attempt=3, failure=Failure("FfmpegError", f"{name} has no frames"))
                    for name in _CHUNKS
                ),
            ),
        ),
        stage("join", "blocked", ("encode",), reason=Reason("children", "waits for encode", ("encode",))),
    ),
    60,
)
