# Evidence from a recording, derived again from the published formulas and nothing else: lines of
# counts in; ln E, ln of each metric's mean and the latency cuts out.
import json, math, sys

RATIOS, ODDS, CUTS = [1.5, 2, 3, 5, 10, 20, 50, 100], [1.2, 1.5, 2, 3, 5, 10, 20, 50], [0.5, 0.9, 0.99]


def add(a, b):  # ln(e^a + e^b)
    if -math.inf in (a, b): return max(a, b)
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


class Mixture:
    def __init__(self): self.ln = [-math.inf] * 8
    def fund(self, part): self.ln = [add(one, math.log(part)) if part else one for one in self.ln]
    def grow(self, factors): self.ln = [one + factor for one, factor in zip(self.ln, factors)]
    def mean(self):
        total = -math.inf
        for one in self.ln: total = add(total, one)
        return total - math.log(8)


def two_sided(bc, bs, nc, ns, w, p0, odds):
    p1 = odds * p0 / (1 - p0 + odds * p0)
    pb = w * p1 + (1 - w) * p0
    bad = (bc * math.log(p1 / pb) + bs * math.log(p0 / pb)) / max(1, bc + bs)
    good = (nc - bc) * math.log((1 - p1) / (1 - pb)) + (ns - bs) * math.log((1 - p0) / (1 - pb))
    return min(bad + good, 3.0)  # no second multiplies by more


K = int(sys.argv[1])
w = step = edges = None
entered, marks, held, window, frozen_at = set(), 0, 0.0, {}, 0
errors, cuts = Mixture(), [Mixture() for _ in CUTS]
for line in sys.stdin:
    tick = json.loads(line)
    t, s, c = tick["t"], tick["stable"], tick["canary"]
    # Restarts: 1/2 at first, 1/(4K) at a step's first entry, 1/(4j(j+1)) each minute.
    enters = "step" in tick and tick["step"] != step
    w, step = tick.get("w", 100 * (w or 0)) / 100, tick.get("step", step)
    part = 0 if entered else 0.5
    if enters:
        warm = t + 15
        warm_latency = max(warm_latency, warm) if entered else t + 60
        clock, minute = t, step in entered
        part += 0 if minute else 1 / (4 * K)
        entered.add(step)
    else:
        minute = t - clock >= 60
    if minute: marks, clock, part = marks + 1, t, part + 1 / (4 * (marks + 1) * (marks + 2))
    # Errors: one second is one trial.
    errors.fund(part)
    m = c["e"] + s["e"]
    if t >= warm: errors.grow([(c["e"] * math.log(r) - m * math.log(1 + w * (r - 1))) / max(1, m) for r in RATIOS])
    # Latency: stable's own quantiles since the cuts were frozen, and its share above them.
    total = sum(window.values())
    due = enters or (edges and t - frozen_at >= 300) or (not edges and t >= warm_latency)
    if due and total >= 100:
        edges, shares, frozen_at = [], [], t
        for cut in CUTS:
            seen, rank = 0, max(1, math.ceil(total * cut))
            for bound in sorted(window):
                seen += window[bound]
                if seen >= rank: break
            edges.append(bound)
            shares.append([(total - seen) / total, 0.0, 0.0, t])
        window = {}
    held += part
    if edges:
        for edge, cut, share in zip(edges, cuts, shares):
            cut.fund(held)
            slow = lambda arm: arm["e"] + sum(count for bound, count in arm["latency"] if bound > edge)
            trials = lambda arm: arm["e"] + sum(count for _, count in arm["latency"])
            guess, bad, n, at = share
            p0 = min(max((bad + 50 * guess) / (n + 50), 1e-6), 1 - 1e-6)
            seen = (slow(c), slow(s), trials(c), trials(s))
            if t >= warm_latency: cut.grow([two_sided(*seen, w, p0, odds) for odds in ODDS])
            kept = 0.5 ** ((t - at) / 60)
            share[1:] = [bad * kept + seen[1], n * kept + seen[3], t]
        held = 0.0
    for bound, count in s["latency"]: window[bound] = window.get(bound, 0) + count
    means = [errors.mean()] + [cut.mean() for cut in cuts if edges]
    ln_e = math.log(1 / 2) + means[0]
    for one in means[1:]: ln_e = add(ln_e, math.log(1 / 6) + one)
    print(json.dumps({"ln": ln_e, "means": means, "edges": edges}))
