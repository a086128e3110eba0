"""What happens to a cluster, what has to be true of its requests all the same, and what of its
processes.
"""

import collections
import time

from load import FAILED, GOOD, HUNG, LATE_S, LIMITS_S, UNREACHABLE

# The roles are back at their work so long after a fault.
RECOVERED_S = 2.0
# What the client itself may take for an answer that is there, beyond what it was seen held up.
CLIENT_S = 0.05
# A span of time in which requests are counted, and the share of good ones in it.
WINDOW_S, SHARE = 0.5, 0.9
# After so long every request of a span should have its answer; one that has none counts as bad.
ANSWERED_S = max(LIMITS_S) + LATE_S
# Fewer requests say nothing about a share.
COUNT_MIN = 10
# How long to wait for a recovery that is too late, to say how late it is.
GIVEN_UP_S = 30
# A connection that breaks shows in requests sent a little before, and in some after.
AROUND_S = 0.3
# What a process may use more than after its first seconds.
GROWTH_MAX = 64 << 20
# A process is measured when it has been at work for so long.
WARM_S = 10


class Fault:
    """One role that is killed, stopped or cut off, and later works again."""

    def __init__(self, role, how, is_active=False):
        self.role, self.how, self.is_active = role, how, is_active
        self.began = self.ended = None

    def begin(self):
        self.began = time.monotonic()
        getattr(self.role, self.how)()

    def end(self):
        ends = {"kill": self.role.start, "stop": self.role.go_on}
        ends.get(self.how, self.role.mend)()

    def wait_until_back(self):
        """Until a frontend listens again, which needs a scheduler."""
        if self.role.kind == "frontend" and self.how == "kill":
            self.role.ports()
        self.ended = time.monotonic()

    @property
    def nobody_schedules(self):
        """A scheduler that is stopped or cut off on its host keeps the lock of the lease's file."""
        return self.is_active and self.how != "kill"

    def hides(self, net):
        """The frontend that clients cannot reach."""
        reachable = self.how.startswith("cut") and net.NAME == "loopback"
        return self.role.name if self.role.kind == "frontend" and not reachable else None

    def __str__(self):
        return f"{self.how.replace('_', ' ')} {self.role.name}{' (active)' if self.is_active else ''}"


class Chaos:
    """Faults of one cluster under one load."""

    def __init__(self, cluster, load, rng, say):
        self.cluster, self.load, self.rng, self.say = cluster, load, rng, say
        self.hidden = collections.defaultdict(list)
        self.memory = {}
        self.slowest = 0.0

    def fault(self, kind, how):
        """A fault of one role of a kind: `active` and `standby` are schedulers."""
        if kind in ("active", "standby"):
            return Fault(getattr(self.cluster, kind)(), how, kind == "active")
        roles = {"backend": self.cluster.backends, "frontend": self.cluster.frontends}[kind]
        return Fault(self.rng.choice(roles), how)

    def round(self, *faults):
        """Lets the faults happen together and end together, and waits for both recoveries."""
        hold_s = self.rng.uniform(0.5, 3.0)
        self.say(f"{' and '.join(map(str, faults))} for {hold_s:.1f} s")
        for fault in faults:
            fault.begin()
        ends = max(fault.began for fault in faults) + hold_s
        names = {fault.role.name for fault in faults}
        others = [role for role in self.cluster.frontends if role.name not in names]
        nobody = names.issuperset(role.name for role in self.cluster.schedulers)
        if others and not nobody and not any(fault.nobody_schedules for fault in faults):
            self.recovers("while it lasts", max(fault.began for fault in faults), others)
        time.sleep(max(0, ends - time.monotonic()))
        for fault in faults:
            fault.end()
        for fault in faults:
            fault.wait_until_back()
            if hidden := fault.hides(self.cluster.net):
                self.hidden[hidden].append((fault.began - AROUND_S, fault.ended + AROUND_S))
        since = max(fault.ended for fault in faults)
        self.recovers("afterwards", since, self.cluster.frontends)
        self.measure()

    def recovers(self, when, since, frontends):
        """Waits until these frontends give good answers again, and checks that it was soon."""
        step = 0.1
        begin = since
        while time.monotonic() < since + GIVEN_UP_S:
            if time.monotonic() < begin + WINDOW_S + ANSWERED_S:
                time.sleep(step)
                continue
            if all(self.is_good(begin, [frontend]) for frontend in frontends):
                break
            begin += step
        took_s, held_up_s = begin - since, self.load.probe.held_up_s(since, begin)
        self.slowest = max(self.slowest, took_s - held_up_s)
        self.say(f"  good again {took_s:.1f} s {when}, this process held up {held_up_s:.2f} s")
        assert took_s <= RECOVERED_S + held_up_s, f"not recovered after {took_s:.1f} s {when}"

    def is_good(self, begin, frontends):
        requests = self.load.between(begin, begin + WINDOW_S, frontends)
        good = sum(request.outcome == GOOD for request in requests)
        return len(requests) >= COUNT_MIN and good >= SHARE * len(requests)

    def measure(self):
        """Notes what each process uses, from when it has been at work for a while."""
        for role in self.cluster.roles:
            if not role.is_running():
                continue
            life, now = (role.name, role.process.pid), time.monotonic()
            seen = self.memory.setdefault(life, {"since": now, "first": None, "most": 0})
            if now - seen["since"] >= WARM_S:
                memory = role.memory()
                seen["first"] = seen["first"] or memory
                seen["most"] = max(seen["most"], memory)

    def check_requests(self):
        """Every request had one outcome, in time, unless its frontend could not be reached."""
        requests = self.load.requests
        counts = collections.Counter(request.outcome for request in requests)
        self.say(f"{len(requests)} requests: {dict(counts)}; slowest recovery {self.slowest:.1f} s")
        failures = collections.Counter(r.text[:120] for r in requests if r.outcome == FAILED)
        for text, count in failures.most_common(5):
            self.say(f"  failed {count} times: {text}")
        wrong = [request for request in requests if self.is_wrong(request)]
        lines = "\n".join(map(repr, wrong[:10]))
        assert not wrong, f"{len(wrong)} of {len(requests)} requests:\n{lines}"

    def is_wrong(self, request):
        spans = self.hidden[request.frontend]
        if any(request.sent < end and request.ended > begin for begin, end in spans):
            return False
        if request.outcome in (UNREACHABLE, HUNG):
            return True
        held_up_s = self.load.probe.held_up_s(request.sent, request.ended)
        return request.late_s > LATE_S + CLIENT_S + held_up_s

    def check_memory(self):
        for (name, pid), seen in self.memory.items():
            grown = seen["most"] - (seen["first"] or seen["most"])
            assert grown <= GROWTH_MAX, f"{name} (process {pid}) grew by {grown >> 20} MiB"
