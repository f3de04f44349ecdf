//! The same steps counted in instructions, which repeat where clocks do not.
//!
//! `cargo bench --bench instructions` needs valgrind and `gungraun-runner` on the PATH; without
//! them it says so and succeeds.

#[expect(clippy::expect_used, reason = "a bench that cannot start should stop")]
mod common;

fn main() {
    // Under valgrind the runner starts this program again with an empty environment.
    let inside = std::env::args().any(|argument| argument == "--gungraun-run");
    let missing = ["valgrind", "gungraun-runner"].into_iter().find(|name| !inside && !on_path(name));
    if let Some(name) = missing {
        eprintln!("instructions: {name} is not installed; nothing was counted");
        return;
    }
    counted::start();
}

fn on_path(name: &str) -> bool {
    let given = name == "gungraun-runner" && option_env!("GUNGRAUN_RUNNER").is_some();
    let path = std::env::var_os("PATH").unwrap_or_default();
    given || std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

mod counted {
    use std::hint::black_box;

    use gungraun::{library_benchmark, library_benchmark_group};
    use switchback::ledger::{Book, Cell};
    use switchback::model::{Outcome, WorkerId};
    use switchback::plan::{Compiled, Plan};
    use switchback::spec::Spec;

    use super::common::{Request, WAYS, outcome, plan, plan_of, requests, routes, spec, split};

    /// Steps per run: divide the count by it.
    const STEPS: usize = 256;

    fn routing(count: usize) -> (Plan, Vec<Request>) {
        (plan_of(count), requests(count))
    }

    #[library_benchmark(setup = routing)]
    #[bench::ten(10)]
    #[bench::ten_thousand(10_000)]
    fn route((plan, requests): (Plan, Vec<Request>)) -> (usize, Plan, Vec<Request>) {
        let found = requests.iter().filter(|one| plan.router.route(black_box(&one.head())).is_ok()).count();
        (found, plan, requests)
    }

    fn choosing(way: usize) -> (Plan, Vec<Request>) {
        let (_, sticky, overrides) = WAYS[way];
        (split(sticky, overrides), requests(1))
    }

    #[library_benchmark(setup = choosing)]
    #[bench::random(0)]
    #[bench::header(1)]
    #[bench::cookie(2)]
    #[bench::overrides(3)]
    fn choose((plan, requests): (Plan, Vec<Request>)) -> (usize, Plan, Vec<Request>) {
        let mut random = fastrand::Rng::with_seed(1);
        let arms = requests.iter().filter_map(|one| {
            plan.routes.first()?.split.choose(black_box(&one.head()), 0, || random.u64(..))
        });
        (arms.map(|choice| choice.arm.at()).sum(), plan, requests)
    }

    fn recording(_: ()) -> (Cell, Vec<Outcome>) {
        let cell = Cell::new("canary".into(), "canary".into(), 1);
        let outcomes: Vec<Outcome> = (0..STEPS).map(outcome).collect();
        // The first record of a decade allocates; what follows is what counts.
        if let Some(shard) = cell.shard(WorkerId(0)) {
            for one in &outcomes {
                shard.record(one);
            }
        }
        (cell, outcomes)
    }

    #[library_benchmark(setup = recording)]
    #[bench::one_worker(())]
    fn record((cell, outcomes): (Cell, Vec<Outcome>)) -> (Cell, Vec<Outcome>) {
        if let Some(shard) = cell.shard(WorkerId(0)) {
            for one in &outcomes {
                shard.record(black_box(one));
            }
        }
        (cell, outcomes)
    }

    fn parsed(count: usize) -> (Spec, Book) {
        (spec(routes(count)), Book::new(2, 1))
    }

    #[library_benchmark(setup = parsed)]
    #[bench::thousand(1_000)]
    fn compile((spec, book): (Spec, Book)) -> (Compiled, Spec, Book) {
        (plan(black_box(&spec), &book), spec, book)
    }

    library_benchmark_group!(name = hot, benchmarks = [route, choose, record, compile]);
    gungraun::main!(library_benchmark_groups = hot);

    /// Hands over to the runner.
    pub fn start() {
        main();
    }
}
