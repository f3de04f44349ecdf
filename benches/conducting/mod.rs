//! Routes with rollouts under way, as the controller has them.
//!
//! Time is made up, so that a bench may ask for as many seconds as it likes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use switchback::control::rollouts::live::identity;
use switchback::control::rollouts::{Live, Now, Rollouts};
use switchback::ledger::Book;
use switchback::ledger::trial::{Ended, Fate, Placement, Side};
use switchback::model::time::UnixMillis;
use switchback::model::{Overlay, WorkerId};
use switchback::plan::{Inputs, Lists, Plan, compile, reweigh};
use switchback::rollout::Event;
use switchback::spec::Spec;

use super::common::{plan, spec};

/// A process as its controller sees it.
pub struct Conducting {
    spec: Spec,
    book: Book,
    plan: Plan,
    /// The rollouts.
    pub rollouts: Rollouts,
    at: u64,
    random: fastrand::Rng,
    sticky: bool,
}

impl Conducting {
    /// `count` routes, each at the first step of a rollout that does not end by itself.
    pub fn new(count: usize, sticky: &str) -> Self {
        let mut text = String::from(
            "listeners: [{ name: web, address: \"0.0.0.0:8080\" }]\n\
             upstreams: { stable: \"http://10.0.0.1:8080\", canary: \"http://10.0.1.1:8080\" }\nroutes:\n",
        );
        for n in 0..count {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "  - {{ name: route-{n}, matches: [{{ path: /service/{n} }}], {sticky}split: {{ stable: 95, canary: 5 }}, \
                 rollout: {{ version: v2, steps: [5, 50, 100], analysis: {{ dwell: 1000h }}, \
                 deadline: {{ step: 5000h, rollout: 9000h }} }} }}"
            );
        }
        let (spec, book) = (spec(text), Book::new(2, 1));
        let plan = plan(&spec, &book).plan;
        let rollouts = Rollouts::new(0, 0);
        let random = fastrand::Rng::with_seed(1);
        let sticky = !sticky.is_empty();
        let mut site = Self { spec, book, plan, rollouts, at: 0, random, sticky };
        site.begin();
        site
    }

    fn begin(&mut self) {
        for route in self.plan.routes.clone() {
            let Some(policy) = &route.policy else { continue };
            self.rollouts.insert(&route.name, Live::new(std::sync::Arc::clone(policy)));
            let event = Event::Version(identity(policy, route.policy_fingerprint, false));
            self.decided(&route.name, &event);
        }
        self.second(0);
        self.plan = self.compiled();
        self.rollouts.published(&self.plan);
        let at_a_step = self.rollouts.iter().filter(|(_, live)| live.rollout.phase.name() == "STAGE");
        assert_eq!(at_a_step.count(), self.plan.routes.len(), "every rollout has begun");
    }

    fn now(&self) -> Now {
        Now { wall: UnixMillis(1_800_000_000_000 + self.at * 1_000), monotonic: Duration::from_secs(self.at) }
    }

    /// One more second with so many requests on each route, of which the time to look at them, judge
    /// them and decide is given.
    pub fn second(&mut self, requests: u64) -> Duration {
        self.traffic(requests);
        self.look()
    }

    /// Looks at what a second left, judges it and decides; the time that took.
    pub fn look(&mut self) -> Duration {
        self.at += 1;
        let (start, now) = (Instant::now(), self.now());
        let mut moved = 0;
        for (name, event) in self.rollouts.look(&self.book, now) {
            moved += usize::from(self.decided(&name, &event));
        }
        std::hint::black_box(moved);
        start.elapsed()
    }

    fn decided(&mut self, name: &str, event: &Event) -> bool {
        let route = self.plan.route_named(name).expect("a route");
        let mut outcome =
            self.rollouts.decide(route, event, self.now()).expect("a rollout").expect("possible");
        self.rollouts.accept(route, &mut outcome, 1, self.now())
    }

    /// So many requests on each route.
    pub fn traffic(&mut self, requests: u64) {
        for route in &self.plan.routes {
            let Some(trial) = route.trial.as_ref().map(|compare| &compare.trial) else { continue };
            for n in 0..requests {
                let side = if n % 20 == 0 { Side::Canary } else { Side::Stable };
                let ended = Ended {
                    side,
                    placement: Placement::Placed,
                    fate: if self.random.u32(..1_000) == 0 { Fate::Bad } else { Fate::Good },
                    client_error: false,
                    slot: self.sticky.then(|| self.random.u16(..)),
                    nanos: Some(self.random.u64(1_000_000..50_000_000)),
                    address: IpAddr::V4(Ipv4Addr::from(self.random.u32(..))),
                    unix_millis: self.now().wall.0 + 1_000 * n / requests,
                };
                trial.record(WorkerId(usize::from(n % 2 == 0)), &ended);
            }
        }
    }

    fn inputs<'a>(
        &'a self,
        lists: &'a Lists,
        env: &'a BTreeMap<String, String>,
        overlay: &'a Overlay,
    ) -> Inputs<'a> {
        Inputs { spec: &self.spec, lists, env, overlay, book: &self.book, previous: Some(&self.plan), now: 0 }
    }

    /// A whole compilation with the weights of now.
    pub fn compiled(&self) -> Plan {
        let overlay = Overlay { guided: self.rollouts.guided(), ..Overlay::default() };
        compile(self.inputs(&Lists::new(), &BTreeMap::new(), &overlay)).expect("a sound configuration").plan
    }

    /// The plan with these routes weighed anew.
    pub fn reweighed(&self, names: &[&str]) -> Plan {
        let names: Vec<&str> = names.to_vec();
        let set = names.iter().map(|name| (*name).to_owned()).collect();
        let overlay = Overlay { guided: self.rollouts.guided_of(&set), ..Overlay::default() };
        let plan = reweigh(self.inputs(&Lists::new(), &BTreeMap::new(), &overlay), &names);
        plan.expect("a sound configuration").expect("a plan before")
    }
}
