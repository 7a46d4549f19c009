"""A second implementation of the breaker: every call in a list, and everything counted from the beginning."""

from dataclasses import dataclass, field

from cb import BreakerConfig, State
from tests.unit.conftest import SECOND

#: probes that a round admits beyond its permits
MAX_EXTRA_PERMITS = 10


@dataclass
class Call:
    started: int
    generation: int
    probe: bool
    nested: bool = False


@dataclass
class Model:
    config: BreakerConfig
    now: int
    state: State = State.CLOSED
    generation: int = 1
    until: int | None = None
    origin: int = 0
    ended: list[tuple[int, bool, bool]] = field(default_factory=list)
    running: list[Call] = field(default_factory=list)
    streak: int = 0
    last_success: int = 0
    failed_rounds: int = 0
    admitted: int = 0
    probe_successes: int = 0
    probe_failures: int = 0
    extra: int = 0
    refused_at: int = -1
    asked: int = 0
    totals: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("successes", "failures", "slow", "rejected", "neutral", "late"), 0)
    )

    def __post_init__(self) -> None:
        self.origin = self.now

    # What is counted.

    def slice(self, time: int) -> int:
        return max(time - self.origin, 0) // (int(self.config.interval * SECOND) // 10)

    def hung(self) -> list[Call]:
        mine = [call for call in self.running if call.generation == self.generation]
        limit = self.config.call_timeout
        return [call for call in mine if limit and self.now - call.started >= limit * SECOND]

    def window(self) -> tuple[int, int, int]:
        counted = [(failed, slow) for time, failed, slow in self.ended if self.slice(time) > self.slice(self.now) - 10]
        if self.state in (State.CLOSED, State.METRICS_ONLY):
            hung = self.hung()
            for call in self.running:
                slow = self.now - call.started >= self.config.slow_call_duration * SECOND
                if call.generation == self.generation and (slow or call in hung):
                    counted.append((call in hung, slow))
        return len(counted), sum(failed for failed, _ in counted), sum(slow for _, slow in counted)

    def consecutive(self) -> int:
        if self.state not in (State.CLOSED, State.METRICS_ONLY):
            return self.streak
        late = [call for call in self.hung() if call.started + self.config.call_timeout * SECOND > self.last_success]
        return self.streak + len(late)

    # What changes the state.

    def enter(self, state: State) -> None:
        if state is State.OPEN:
            self.failed_rounds += self.state is State.HALF_OPEN
            wait = min(
                self.config.timeout * self.config.timeout_multiplier**self.failed_rounds, self.config.timeout_max
            )
            asked = min(self.asked, self.now + int(self.config.timeout_max * SECOND))
            self.until = max(self.now + int(wait * SECOND), asked)
        elif state is State.HALF_OPEN:
            self.admitted = self.probe_successes = self.probe_failures = 0
            self.until = self.now + int(self.config.half_open_max_duration * SECOND)
        else:
            self.until, self.ended, self.streak, self.failed_rounds, self.asked = None, [], 0, 0, 0
            self.origin, self.last_success = self.now + 1, self.now
        self.state, self.extra = state, 0
        self.generation += 1

    def evaluate(self) -> None:
        config = self.config
        if self.state is State.CLOSED:
            requests, failures, slow = self.window()
            enough = requests >= config.minimum_requests
            if (
                (config.failure_threshold and self.consecutive() >= config.failure_threshold)
                or (enough and failures / requests >= config.failure_rate_threshold)
                or (enough and config.slow_call_rate_threshold and slow / requests >= config.slow_call_rate_threshold)
            ):
                self.enter(State.OPEN)
        elif self.state is State.HALF_OPEN:
            limit = config.call_timeout or config.half_open_max_duration
            probes = [call for call in self.running if call.probe and call.generation == self.generation]
            overdue = [call for call in probes if self.now - call.started >= limit * SECOND]
            within_reach = config.max_requests - self.probe_failures - len(overdue)
            if self.probe_successes >= config.success_threshold:
                self.enter(State.CLOSED)
            elif within_reach < config.success_threshold or self.now >= self.until:
                self.enter(State.OPEN)
        elif self.until is not None and self.state is not State.OPEN and self.now >= self.until:
            self.enter(State.HALF_OPEN if self.state is State.FORCED_OPEN else State.CLOSED)

    def begin(self, *, elsewhere: bool = False) -> bool:
        # But for those elsewhere all calls are of one thread, and what runs is blocks: a probe is around what comes.
        if not elsewhere and any(call.probe and call.generation == self.generation for call in self.running):
            self.running.append(Call(self.now, self.generation, probe=False, nested=True))
            return True
        if self.state in (State.HALF_OPEN, State.FORCED_OPEN):
            self.evaluate()
        if self.state is State.OPEN and self.now >= self.until:
            self.enter(State.HALF_OPEN)
        full = self.state is State.HALF_OPEN and self.admitted >= self.config.max_requests + self.extra
        if full or self.state in (State.OPEN, State.FORCED_OPEN):
            self.totals["rejected"] += 1
            return False
        self.admitted += self.state is State.HALF_OPEN
        self.running.append(Call(self.now, self.generation, self.state is State.HALF_OPEN))
        return True

    def widens(self, call: Call) -> bool:
        if self.refused_at < call.started or (call.generation == self.generation and self.extra >= MAX_EXTRA_PERMITS):
            return False
        self.extra += call.generation == self.generation
        return True

    def wait(self) -> float | None:
        if self.state not in (State.OPEN, State.FORCED_OPEN, State.HALF_OPEN) or self.until is None:
            return None
        left = max(self.until - self.now, 0) / SECOND
        if self.state is not State.HALF_OPEN:
            return left
        permit = self.config.call_timeout or self.config.half_open_max_duration
        return min(left, permit, 1.0) if self.admitted >= self.config.max_requests + self.extra else 0.0

    def end(self, call: Call, outcome: str) -> None:
        self.running.remove(call)
        elapsed = self.now - call.started
        slow = elapsed >= self.config.slow_call_duration * SECOND
        if outcome == "interrupted":
            outcome = "failure" if slow else "neutral"
        if outcome == "refused":
            outcome = "failure" if call.probe and not self.widens(call) else "neutral"
        if call.generation != self.generation:
            self.totals["late"] += 1
            return
        if outcome == "neutral" or self.state is State.DISABLED:
            self.totals["neutral"] += 1
            self.admitted -= call.probe
            return
        failed = outcome == "failure"
        self.totals["failures" if failed else "successes"] += 1
        self.totals["slow"] += slow
        self.ended.append((self.now, failed, slow))
        if failed:
            self.streak += 1
        elif not call.probe and not call.nested:
            self.streak, self.last_success = 0, self.now
        if call.probe:
            limit = self.config.call_timeout or self.config.half_open_max_duration
            too_slow = slow and self.config.slow_call_rate_threshold
            good = not failed and not too_slow and elapsed < limit * SECOND
            self.probe_successes += good
            self.probe_failures += not good
        self.evaluate()
