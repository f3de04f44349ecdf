//! switchback: an L7 traffic-splitting reverse proxy that watches what it does and switches back.
//!
//! # The house, in layer order
//!
//! | Room | What it is for |
//! |---|---|
//! | [`model`] | shared words: ids, outcomes, log lines, and every metric's name |
//! | [`spec`] | what the operator writes, as it is written |
//! | [`wire`] | the admin API's JSON, both ways |
//! | [`split`] | who gets which arm: hash, buckets, ranges |
//! | [`ledger`] | live numbers: cells, slots, addresses, rates |
//! | [`analysis`] | is the canary harmful? And objectives, and what mirrored answers differ in |
//! | [`rollout`] | what to do about it: the state machines of rollouts and flips |
//! | [`plan`] | the compiled snapshot that requests read |
//! | [`certs`] | certificates of our own listeners, swapped while they serve |
//! | [`fetch`] | the small HTTP client of hooks, checks, notices and verbs |
//! | [`upstream`] | talking to origins: names, pools, TLS, probes, breakers |
//! | [`net`] | accepting clients: sockets, TLS, the PROXY protocol |
//! | [`proxy`] | the request path: choose, forward, retry, copy, record |
//! | [`control`] | the only writer: files, verbs, ticks, state, what is told |
//! | [`telemetry`] | metrics, logs and spans on their way out |
//! | [`admin`] | the operator's listener: API, probes, page |
//! | [`cli`] | the command line |
//! | [`app`] | the composition root: start, life, upgrade, demo |
//!
//! # A request
//!
//! `net` accepts and hands over a head; `proxy` loads the plan once, routes and chooses (`plan`, `split`),
//! borrows a connection (`upstream`), streams both ways and leaves one outcome (`ledger`). Each second
//! `control` reads the cells, asks `analysis`, lets `rollout` decide, writes it down and publishes a plan.
//!
//! # Invariants
//!
//! Each with the tests that hold it; that they exist is tested too.
//!
//! 1. One plan per request: an exchange keeps the plan it began with.
//!    `tests/it/reload.rs`: `an_exchange_keeps_the_plan_it_began_with`.
//! 2. A published plan is never mutated; only cells move.
//!    `tests/tidy.rs`: `a_published_plan_cannot_change`.
//! 3. One publisher; publishing is all or nothing.
//!    `tests/tidy.rs`: `nothing_grows_without_bound_or_writes_where_it_must_not`;
//!    `tests/it/mutations.rs`: `five_hundred_broken_files_are_refused_by_name_and_change_nothing`.
//! 4. Toward the canary: persist, then publish. Toward stable: publish, then persist.
//!    `src/control/order.rs`: `only_relief_is_toward_stable`; `src/control/tests.rs`:
//!    `without_a_state_folder_only_relief_is_possible`; `src/control/tests/disks.rs`:
//!    `a_disk_that_hangs_holds_up_nothing_that_goes_back`.
//! 5. Pure rooms: same input, same bytes out.
//!    `tests/tidy.rs`: `pure_modules_do_nothing`.
//! 6. Every exchange leaves exactly one outcome.
//!    `tests/it/metrics.rs`: `rates_errors_and_durations_of_a_scripted_run_are_exact`.
//! 7. Shadow traffic can neither delay nor fail a client, nor be counted with user traffic.
//!    `tests/it/mirror.rs`: `a_shadow_of_no_use_is_nobodys_trouble_and_every_copy_is_counted_once`,
//!    `a_failing_shadow_is_no_evidence_against_a_rollouts_candidate`.
//! 8. Raising an arm's weight moves buckets only into it; siblings keep theirs.
//!    `src/split/ranges.rs`: `growth_moves_buckets_only_into_the_arm_that_grows`.
//! 9. The data plane never imports the control plane.
//!    `tests/tidy.rs`: `layers_point_one_way`.
//! 10. Every queue, loop, buffer and label set has a named bound.
//!     `tests/tidy.rs`: `nothing_grows_without_bound_or_writes_where_it_must_not`;
//!     `tests/it/metrics.rs`: `no_traffic_creates_a_series_and_promtool_accepts_the_page`.
//! 11. The analyzer says what is true (`analysis::Verdict`); only `rollout::transition` says what to do.
//!     `src/rollout/tests/simulation.rs`: `whatever_happens_the_invariants_hold`.
//! 12. Moves toward stable are always accepted; moves toward canary need the current generation.
//!     `tests/it/admin.rs`: `a_move_toward_stable_needs_no_generation`,
//!     `if_match_admits_the_current_generation_once`.
//!
//! # Words
//!
//! | Word | Means |
//! |---|---|
//! | listener, connection, exchange | a bound socket; one client's transport; one request with its response |
//! | route, match | a rule that owns traffic; its conditions, in the words of the Kubernetes Gateway API |
//! | upstream, endpoint, pool | a named group of equal addresses; one address; the connections to it |
//! | split, weight, arm | how a route divides its traffic; an arm's relative share; one named share, served by one upstream |
//! | stable, canary | the two roles an arm may have in a rollout |
//! | sticky key, salt, bucket | what identifies a user; the seed; the number 0..9999 it hashes to |
//! | slot | of an arm: where it grows from; of blue-green: one of its two arms; of the ledger: 1 of 65,536 hash ranges |
//! | override, pin, choice | forcing by condition; a signed cookie that holds a user on an arm; an arm with the reason |
//! | spec, overlay, plan, generation | the file's intent; run-time intent; the compiled snapshot; its number |
//! | cell, book, tick, outcome | live numbers of one arm; all cells; one second; what one exchange left |
//! | rollout, step, dwell | guarded progress to a new version; one weight; its minimum time |
//! | evidence, verdict, move | the accumulated statistic; what is true; what to do |
//! | hold, pause | waits and goes on by itself; waits for a person |
//! | revert, abort, flip, promote | weight back to stable by evidence; by a person; slots change places; the canary becomes stable |
//! | drain | of an arm: no new users while pinned ones finish; of a process or slot: stop taking, finish what runs |
//! | mirror, shadow | the act of copying; the upstream that gets the copies |
//! | probe, outlier, breaker | an active check; ejection for bad answers; an upstream that is not asked for a while |

pub mod model;

pub mod spec;
pub mod wire;

pub mod ledger;
pub mod split;

pub mod analysis;
pub mod rollout;

pub mod plan;

pub mod certs;
pub mod fetch;

pub mod net;
pub mod upstream;

pub mod proxy;

pub mod control;
pub mod telemetry;

pub mod admin;
pub mod cli;

pub mod app;
