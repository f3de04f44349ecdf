//! What an epoch counts, of whom, and how much of one address.

use super::*;

fn ended(side: Side, fate: Fate, client: u32) -> Ended {
    Ended {
        side,
        placement: Placement::Placed,
        fate,
        client_error: false,
        slot: None,
        nanos: Some(1_000_000),
        address: IpAddr::V4(client.into()),
        unix_millis: 7_250,
    }
}

#[test]
fn each_fate_counts_where_it_belongs() {
    let trial = Trial::new(1, 2, 0, Vec::new());
    for (worker, fate) in [(0, Fate::Good), (1, Fate::Good), (0, Fate::Bad), (0, Fate::Left), (1, Fate::Void)]
    {
        trial.record(WorkerId(worker), &ended(Side::Canary, fate, 1));
    }
    let canary = trial.totals(7).canary;
    assert_eq!((canary.n, canary.e, canary.latency.total(), canary.left.total()), (3, 1, 2, 1));
    assert_eq!((canary.moments, trial.totals(8).canary.moments), (0b100, 0));
    assert_eq!(trial.totals(7).stable.n, 0);
}

#[test]
fn tenths_of_a_second_are_known_while_the_next_one_fails_as_well() {
    let trial = Trial::new(1, 1, 0, Vec::new());
    for unix_millis in [7_250, 7_910, 8_010] {
        trial.record(WorkerId(0), &Ended { unix_millis, ..ended(Side::Canary, Fate::Bad, 1) });
    }
    let moments = |second| trial.totals(second).canary.moments;
    assert_eq!([6, 7, 8, 9].map(moments), [0, 0b10_0000_0100, 0b1, 0]);
    trial.record(WorkerId(0), &Ended { unix_millis: 10_500, ..ended(Side::Canary, Fate::Bad, 1) });
    assert_eq!([8, 9, 10].map(moments), [0, 0, 0b10_0000]);
}

#[test]
fn steered_requests_feed_no_test_and_trusted_ones_the_guard_alone() {
    let trial = Trial::new(1, 1, 0, Vec::new());
    for placement in [Placement::Steered, Placement::Trusted] {
        trial.record(WorkerId(0), &Ended { placement, ..ended(Side::Canary, Fate::Bad, 1) });
    }
    let canary = trial.totals(7).canary;
    assert_eq!((canary.n, canary.e, canary.trusted), (0, 0, (1, 1)));
}

#[test]
fn one_address_of_many_adds_five_bad_outcomes_over_both_arms() {
    let trial = Trial::new(1, 1, 3, Vec::new());
    let flood = |count| {
        for at in 0..count {
            let side = if at % 2 == 0 { Side::Stable } else { Side::Canary };
            trial.record(WorkerId(0), &ended(side, Fate::Bad, 1));
        }
    };
    flood(10);
    let both = |trial: &Trial| trial.totals(7).stable.e + trial.totals(7).canary.e;
    assert_eq!(both(&trial), 10, "a lone client is all there is to go by");
    for client in 2..60 {
        trial.record(WorkerId(0), &ended(Side::Stable, Fate::Good, client));
    }
    assert!(!trial.totals(7).few_addresses);
    flood(1_000);
    assert_eq!(both(&trial), 10);
    for client in 100..110 {
        trial.record(WorkerId(0), &ended(Side::Canary, Fate::Bad, client));
    }
    assert!(both(&trial) >= 19, "others still count");
}

#[test]
fn a_slot_counts_once_however_many_workers_saw_it() {
    let trial = Trial::new(1, 2, 0, vec![9]);
    for (worker, slot, fate) in
        [(0, 4, Fate::Bad), (1, 4, Fate::Bad), (1, 5, Fate::Good), (1, 5, Fate::Good), (0, 9, Fate::Bad)]
    {
        trial.record(WorkerId(worker), &Ended { slot: Some(slot), ..ended(Side::Canary, fate, 1) });
    }
    let canary = trial.totals(7).canary;
    assert_eq!((canary.slots, canary.bad_slots, canary.n, canary.e), (2, 1, 5, 3));
    assert_eq!(canary.latency.total(), 1, "of a slot's good outcomes the first");
    assert_eq!(canary.first_bad, 1, "of a user the first outcome");
}

#[test]
fn failures_of_users_are_compared_once_five_addresses_had_them() {
    let trial = Trial::new(1, 1, 0, Vec::new());
    let user =
        |side, fate, client: u32| Ended { slot: u16::try_from(client).ok(), ..ended(side, fate, client) };
    for client in 100..200 {
        trial.record(WorkerId(0), &user(Side::Stable, Fate::Good, client));
    }
    trial.warmed();
    trial.record(WorkerId(0), &user(Side::Stable, Fate::Bad, 50));
    for failed in 1..8 {
        trial.record(WorkerId(0), &user(Side::Canary, Fate::Bad, u32::try_from(failed).unwrap()));
        let (stable, canary) = (trial.totals(7).stable, trial.totals(7).canary);
        let told = if failed < 5 { (0, 0) } else { (1, failed) };
        assert_eq!((stable.warm_bad_slots, canary.warm_bad_slots), told, "{failed} failed");
        assert_eq!((stable.bad_slots, canary.bad_slots), (1, failed), "the guard reads all");
    }
}

#[test]
fn networks_of_one_site_are_one_address() {
    let of = |text: &str| network(text.parse().unwrap());
    assert_eq!(of("2001:db8:0:1200::1"), of("2001:db8:0:12ff::2"));
    assert_ne!(of("2001:db8:0:1200::1"), of("2001:db8:0:1300::1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
}

#[test]
fn a_slot_that_is_one_too_many_of_its_address_is_left_to_others() {
    let trial = Trial::new(1, 1, 0, Vec::new());
    let user = |client: u32, slot| Ended { slot: Some(slot), ..ended(Side::Canary, Fate::Good, client) };
    for client in 0..100_u16 {
        trial.record(WorkerId(0), &user(1_000 + u32::from(client), client));
    }
    for slot in 500..550 {
        trial.record(WorkerId(0), &Ended { client_error: true, ..user(1, slot) });
    }
    let seen = trial.totals(7).canary;
    assert!((101..=103).contains(&seen.slots), "{}", seen.slots);
    assert_eq!((seen.latency.total(), seen.client_error_slots), (seen.slots, 1));
    for slot in 500..550 {
        trial.record(WorkerId(0), &user(2_000 + u32::from(slot), slot));
    }
    assert_eq!(trial.totals(7).canary.slots, 150);
}
