//! Steps of the request path and of a reload, by the clock: route, choose, record, compile.
//!
//! `cargo bench --bench hot`. Figures and targets are in benches/README.md. Nothing here may gate a
//! build: shared machines are noisy.

#[expect(clippy::expect_used, reason = "a bench that cannot start should stop")]
mod common;
#[expect(clippy::expect_used, reason = "a bench that cannot start should stop")]
mod conducting;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::{REQUESTS, WAYS, outcome, plan, plan_of, requests, routes, spec, split};
use conducting::Conducting;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use switchback::ledger::{Book, Cell};
use switchback::model::WorkerId;

fn route(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for count in [10, 100, 10_000] {
        let (plan, asked) = (plan_of(count), requests(count));
        let heads: Vec<_> = asked.iter().map(common::Request::head).collect();
        let mut at = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |bench| {
            bench.iter(|| {
                at = (at + 1) % REQUESTS;
                plan.router.route(black_box(&heads[at])).map(|routed| routed.route)
            });
        });
    }
    group.finish();
}

fn choose(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("choose");
    let asked = requests(1);
    let heads: Vec<_> = asked.iter().map(common::Request::head).collect();
    for (name, sticky, overrides) in WAYS {
        let plan = split(sticky, overrides);
        let Some(route) = plan.routes.first() else { continue };
        let mut random = fastrand::Rng::with_seed(1);
        let mut at = 0;
        group.bench_function(*name, |bench| {
            bench.iter(|| {
                at = (at + 1) % REQUESTS;
                route.split.choose(black_box(&heads[at]), 0, || random.u64(..))
            });
        });
    }
    group.finish();
}

fn record(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    let outcomes: Vec<_> = (0..REQUESTS).map(outcome).collect();
    // Two workers on one cell must cost what two workers on cells of their own cost.
    for (name, workers, cells) in [("one worker", 1, 1), ("two workers", 2, 1), ("two workers apart", 2, 2)] {
        group.bench_function(name, |bench| {
            bench.iter_custom(|times| record_on(workers, cells, times, &outcomes));
        });
    }
    group.finish();
}

/// Time of the slowest of `workers` threads that all write to as many cells in turn.
fn record_on(workers: usize, cells: usize, times: u64, outcomes: &[switchback::model::Outcome]) -> Duration {
    let cells: Vec<_> = (0..cells).map(|_| Cell::new("canary".into(), "canary".into(), workers)).collect();
    let barrier = std::sync::Barrier::new(workers);
    let work = |worker: usize| {
        let cell = cells.get(worker % cells.len());
        let Some(shard) = cell.and_then(|cell| cell.shard(WorkerId(worker))) else { return Duration::ZERO };
        barrier.wait();
        let start = Instant::now();
        for outcome in outcomes.iter().cycle().take(usize::try_from(times).unwrap_or(usize::MAX)) {
            shard.begin();
            shard.record(black_box(outcome));
        }
        start.elapsed()
    };
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).max().unwrap_or_default()
    })
}

fn reload(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reload");
    group.sample_size(10).measurement_time(Duration::from_secs(8));
    for count in [100, 10_000] {
        let text = routes(count);
        group.bench_function(BenchmarkId::new("parse", count), |bench| bench.iter(|| spec(text.clone())));
        let parsed = spec(text);
        let book = Book::new(2, 1);
        let first = plan(&parsed, &book);
        group.bench_function(BenchmarkId::new("compile", count), |bench| bench.iter(|| plan(&parsed, &book)));
        drop(first);
    }
    group.finish();
}

/// What the controller does each second with rollouts under way, and when a weight moves among them.
fn second(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("second");
    group.sample_size(20).measurement_time(Duration::from_secs(8));
    for (name, sticky) in [("keyless", ""), ("sticky", "sticky: { by: [{ header: x-user-id }] }, ")] {
        let mut site = Conducting::new(1_000, sticky);
        group.bench_function(BenchmarkId::new("decide", name), |bench| {
            bench.iter_custom(|times| (0..times).map(|_| site.second(20)).sum());
        });
        group.bench_function(BenchmarkId::new("report", name), |bench| bench.iter(|| site.rollouts.report()));
        group.bench_function(BenchmarkId::new("one route moves", name), |bench| {
            bench.iter(|| site.reweighed(&["route-500"]));
        });
        group.bench_function(BenchmarkId::new("every route moves", name), |bench| {
            let names: Vec<String> = (0..1_000).map(|n| format!("route-{n}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            bench.iter(|| site.reweighed(&names));
        });
        group.bench_function(BenchmarkId::new("whole compilation", name), |bench| {
            bench.iter(|| site.compiled());
        });
    }
    group.finish();
}

criterion_group!(benches, route, choose, record, reload, second);
criterion_main!(benches);
