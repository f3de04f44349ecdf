// The configuration the page is looked at with: a rollout, blue and green, a mirror, an objective,
// upstreams that are watched, and names that would break out of a page that trusts them.

export const HOSTILE = "</script><img src=x onerror=window.hacked=1>\"'&amp;";

const QUICK = "bake: 1h, deadline: { step: 2h }, analysis: { confidence: low, minRequests: 5, bursts: 1, dwell: 3s, warmup: { errors: 0, latency: 0 } }";

export function config(origins, version) {
  const rollout = version ? `\n    rollout: { version: ${version}, from: stable, to: canary, steps: [{ weight: 10, dwell: 1h }, 25, 50, 100], ${QUICK} }` : "";
  return `upstreams:
  stable: "${origins.stable.url}"
  canary: "${origins.canary.url}"
  shadow: "${origins.shadow.url}"
  blue: "${origins.stable.url}"
  shaky: { endpoints: ["${origins.shaky.url}"], healthCheck: { interval: 200ms, timeout: 1s, healthyThreshold: 1, unhealthyThreshold: 1 } }
  flaky: { endpoints: ["${origins.flaky.url}"], breaker: { errorRate: 50%, minRequests: 5, window: 2s, open: 1500ms } }
  green: { endpoints: ["${origins.canary.url}"], breaker: { errorRate: 100%, minRequests: 1000000 } }
routes:
  - name: checkout
    hostnames: [checkout.test]
    split: { stable: 95, canary: 5 }
    sticky: { by: [{ header: x-user }] }
    slo: { availability: 99.9%, window: 30d }${rollout}
  - name: search
    hostnames: [search.test]
    split: { stable: 80, canary: { weight: 15, slot: 1 }, third: { weight: 5, upstream: shadow, slot: 2 } }
    sticky: { by: [{ header: x-user }] }
    overrides: [{ name: qa, owner: growth, when: { headers: [{ name: x-qa, value: "1" }] }, arm: canary }]
    mirror: { to: shadow, percent: 50%, compare: [status, json] }
  - name: web
    hostnames: [web.test]
    blueGreen: { slots: [blue, green], active: blue, verify: { for: 60s } }
  - name: edge
    hostnames: [edge.test]
    split: { shaky: 1, flaky: 1 }
    defaultArm: shaky
  - name: ${JSON.stringify(HOSTILE)}
    hostnames: [hostile.test]
    split: { stable: 1 }
`;
}

export const HOSTS = ["checkout.test", "checkout.test", "checkout.test", "search.test", "web.test", "edge.test", "hostile.test"];
