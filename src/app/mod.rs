//! composition root (temporary)
pub mod worker;
use std::sync::Arc;
use crate::model::*;
struct NoLog; impl crate::model::log::AccessSink for NoLog { fn record(&self, _: crate::model::log::AccessRecord) {} }
/// temp
pub fn quick(path: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    let spec = crate::spec::parse(vec![crate::spec::Source{name: path.into(), text}]).unwrap();
    let workers = 1;
    let book = Arc::new(crate::ledger::Book::new(workers, 64));
    let overlay = Overlay::default();
    let c = crate::plan::compile(crate::plan::Inputs{spec:&spec, lists:&Default::default(), env:&Default::default(), overlay:&overlay, book:&book, previous: None, now: 0});
    let plan = match c { Ok(c) => { for w in &c.warnings { eprintln!("{w}"); } c.plan }, Err(e) => { for d in e { eprintln!("{d}"); } return } };
    let sockets: Vec<_> = plan.listeners.iter().map(|l| crate::net::bind::bind(l.address, workers).unwrap()).collect();
    let plans = Arc::new(arc_swap::ArcSwap::from_pointee(plan));
    let (_tx, stop) = tokio::sync::watch::channel(false);
    let (_tx2, published) = tokio::sync::watch::channel(Generation(1));
    let mut socks = sockets;
    worker::run(worker::Birth{ id: WorkerId(0), sockets: socks.iter_mut().enumerate().map(|(i,s)| (i, s.pop().unwrap())).collect(), plans, published, book, sink: Arc::new(NoLog), seed: 42, stop, grace: std::time::Duration::from_secs(30)}).unwrap();
}
