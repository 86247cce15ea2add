//! Draws a plan from a seed: a small world in which about everything goes wrong for half a minute or more, and then nothing does.

use std::time::Duration;

use jobs_core::destination::{Destination, HealthCheck, OnUnknown, OrderingOnDead, RateLimit};
use jobs_core::retry::{Backoff, Jitter};
use jobs_core::store::Retention;

use super::destination::{Model, Weather};
use super::dice::Dice;
use super::plan::{Act, Fault, MS, Network, Plan, Post, RetryBy, SECOND, SitePlan, Temper, Us};

/// Steps between two comparisons of all that is stored with all that was seen.
const AUDIT_EVERY: u64 = 97;

/// The plan of `seed`.
pub fn plan(seed: u64) -> Plan {
    let dice = &mut Dice::new(seed);
    // Now and then an outage so long that a job's own delays would outlast the bound.
    let long = dice.chance(8);
    let busy = if long { 260 * SECOND } else { dice.between((20 * SECOND, 45 * SECOND)) };
    let quiet = busy + 3 * SECOND;
    let sites: Vec<SitePlan> = (0..1 + dice.below(3) as usize).map(|index| site(index, busy, long, dice)).collect();
    let workers: Vec<u32> = (0..1 + dice.below(3)).map(|_| 1 + dice.below(12) as u32).collect();
    let posts: Vec<Post> = (0..30 + dice.below(50)).map(|_| post(&sites, dice)).collect();
    let mut acts = posting(posts.len(), busy, dice);
    acts.extend(steering(&sites, busy, quiet, dice));
    let faults = faults(&sites, workers.len(), busy, dice);
    acts.extend(regrets(&faults, dice));
    let delay = (200, if dice.chance(20) { 80 * MS } else { 3 * MS });
    let lost = if dice.chance(60) { dice.below(50) } else { 0 };
    // A clock that was set back makes all that is written down by it wait as much longer.
    let back =
        faults.iter().map(|(_, fault)| if let Fault::JumpClock(ms) = fault { ms.min(&0).unsigned_abs() } else { 0 });
    let back = back.sum::<u64>() * MS;
    let short = dice.chance(40);
    let seconds = |seconds| Duration::from_secs(if short { seconds } else { 86_400 });
    Plan {
        seed,
        policy: RetryBy::Gate,
        workers,
        network: Network { delay, lost, repeated: lost / 2 },
        commit: (300, if dice.chance(20) { 60 * MS } else { 4 * MS }),
        retention: Retention { succeeded: seconds(15), dead: seconds(25), keys: Duration::from_secs(86_400) },
        posts,
        acts,
        faults,
        quiet,
        bound: if long { 1_500 * SECOND } else { 300 * SECOND },
        set_back: back,
        audit_every: AUDIT_EVERY,
        bug: None,
        sites,
    }
}

fn site(index: usize, busy: Us, long: bool, dice: &mut Dice) -> SitePlan {
    let name = ["a", "b", "c"][index % 3].parse().expect("a letter is a name");
    let mut settings = Destination::new(name, "http://127.0.0.1/".to_owned());
    settings.attempt_timeout = Duration::from_millis(1_500 + dice.below(8_000));
    let policy = &mut settings.policy;
    policy.max_attempts = 3 + dice.below(4) as u32;
    let base = Duration::from_millis(300 + dice.below(1_700));
    let max_delay = Duration::from_secs(if long { 64 } else { 16 });
    policy.retry.backoff = Backoff::Exponential { base, factor: 2.0, max_delay };
    policy.retry.jitter = [Jitter::None, Jitter::Full, Jitter::Equal][dice.below(3) as usize];
    if dice.chance(15) {
        policy.on_unknown = OnUnknown::DeadLetter;
    } else if dice.chance(25) {
        policy.idempotency_window = Some(Duration::from_millis(2_000 + dice.below(10_000)));
    }
    policy.max_lost = dice.chance(20).then(|| 1 + dice.below(2) as u32);
    if dice.chance(40) {
        policy.ordering_on_dead = OrderingOnDead::Block;
    }
    settings.max_in_flight = dice.chance(30).then(|| 1 + dice.below(6) as u32);
    settings.rate_limit = dice.chance(20).then_some(RateLimit { per_second: 5.0, burst: 3 });
    settings.health_check = dice.chance(40).then(|| HealthCheck {
        url: "http://127.0.0.1/".to_owned(),
        method: "GET".to_owned(),
        expect: 200,
    });
    // A slow handshake is a long time in which a lease can be taken back.
    let dial = if dice.chance(25) { (20 * MS, 900 * MS) } else { (100, 400) };
    SitePlan { settings, model: model(dice), dial, weather: weather(busy, long, dice) }
}

fn model(dice: &mut Dice) -> Model {
    let service = dice.between((MS, 300 * MS));
    match dice.below(6) {
        0 => Model::Bucket { per_second: 4.0 + dice.unit() * 60.0, burst: 5.0, service, noise: dice.unit() * 2.0 },
        1 => Model::Concurrency { most: 2 + dice.below(10) as u32, service },
        2 => Model::Queue { servers: 1 + dice.below(4) as usize, service: service / 4 },
        _ => Model::Steady { service },
    }
}

fn weather(busy: Us, long: bool, dice: &mut Dice) -> Vec<(Us, Weather)> {
    let mut weather = Vec::new();
    let mut at = dice.between((0, 8 * SECOND));
    if long {
        weather.push((at, bad(dice)));
        at = busy;
    }
    while at < busy {
        weather.push((at, bad(dice)));
        at += dice.between((500 * MS, 9 * SECOND));
        weather.push((at, Weather::Up));
        at += dice.between((200 * MS, 8 * SECOND));
    }
    weather.retain(|(from, _)| *from < busy);
    weather.push((busy, Weather::Up));
    weather
}

fn bad(dice: &mut Dice) -> Weather {
    match dice.below(13) {
        0 => Weather::Refused,
        1 => Weather::BlackHole,
        2 => Weather::Reset,
        3 => Weather::Hang,
        4 => Weather::Status { status: 503, retry_after: None },
        5 => Weather::Status { status: 503, retry_after: Some(dice.between((SECOND, 5 * SECOND))) },
        6 => Weather::Status { status: 500, retry_after: None },
        7 => Weather::Status { status: 401, retry_after: None },
        8 => Weather::Status { status: 400, retry_after: None },
        9 => Weather::Errors { status: 500, percent: 20 + dice.below(70) },
        10 => Weather::Slow(2 + dice.below(20)),
        11 => Weather::Flapping { up: dice.between((SECOND, 5 * SECOND)), down: dice.between((SECOND, 5 * SECOND)) },
        _ => Weather::Capacity(0.5),
    }
}

fn post(sites: &[SitePlan], dice: &mut Dice) -> Post {
    let site = dice.below(sites.len() as u64) as usize;
    Post {
        temper: match dice.below(20) {
            0 => Temper::Answered([400, 404, 500][dice.below(3) as usize]),
            1 => Temper::AtFirst([500, 404, 503, 409][dice.below(4) as usize], 1 + dice.below(3) as u32),
            _ => Temper::Good,
        },
        keyed: dice.chance(80),
        delay: if dice.chance(15) { dice.between((0, 12 * SECOND)) } else { 0 },
        priority: if dice.chance(30) { dice.below(10) as u8 } else { 0 },
        ordering: dice.chance(35).then(|| dice.below(3) as u8),
        expires: dice.chance(8).then(|| dice.between((SECOND, 20 * SECOND))),
        max_attempts: dice.chance(10).then(|| 1 + dice.below(3) as u32),
        ..Post::plain(site)
    }
}

/// All posts, one or some in a request, most of them early.
fn posting(posts: usize, busy: Us, dice: &mut Dice) -> Vec<(Us, Act)> {
    let mut acts = Vec::new();
    let mut next = 0;
    while next < posts {
        let count = if dice.chance(25) { 1 + dice.below(8) as usize } else { 1 };
        let range = next..(next + count).min(posts);
        next = range.end;
        let until = if dice.chance(50) { busy.min(10 * SECOND) } else { busy };
        acts.push((dice.between((0, until)), Act::Post(range)));
    }
    acts
}

fn steering(sites: &[SitePlan], busy: Us, quiet: Us, dice: &mut Dice) -> Vec<(Us, Act)> {
    let mut acts = Vec::new();
    for _ in 0..8 + dice.below(25) {
        let pick = dice.roll();
        let act = match dice.below(10) {
            0..3 => Act::PostAgain { pick, other_body: dice.chance(30) },
            3..7 => Act::Cancel { pick },
            _ => Act::Redrive { pick, new_key: dice.chance(30) },
        };
        acts.push((dice.between((SECOND, busy)), act));
    }
    for (index, site) in sites.iter().enumerate() {
        if dice.chance(25) {
            let from = dice.between((SECOND, busy));
            acts.push((from, Act::Pause(index)));
            acts.push((dice.between((from, busy)), Act::Resume(index)));
        }
        // A dead head's fate is decided by the settings of that moment: keep it simple to follow.
        if dice.chance(10) && site.settings.policy.ordering_on_dead == OrderingOnDead::Free {
            let from = dice.between((SECOND, busy));
            acts.push((from, Act::Remove(index)));
            acts.push((dice.between((from, busy)), Act::Return(index)));
        }
        // Whatever was lost or came late on the way: in the end it is resumed.
        acts.push((quiet, Act::Resume(index)));
        acts.push((quiet, Act::Return(index)));
        acts.extend((1..400).map(|n| (quiet + n * 4 * SECOND, Act::Trickle(index))));
    }
    acts.extend((0..400).map(|n| (quiet + n * 4 * SECOND, Act::Unblock)));
    acts
}

/// Cancels while a worker is out of reach: of jobs it may hold, whose ends it may report late.
fn regrets(faults: &[(Us, Fault)], dice: &mut Dice) -> Vec<(Us, Act)> {
    let out_of_reach = |fault: &Fault| {
        matches!(fault, Fault::CutFromGateway { .. } | Fault::StallWorker { .. } | Fault::CrashWorker { .. })
    };
    let mut acts = Vec::new();
    for (at, _) in faults.iter().filter(|(_, fault)| out_of_reach(fault)) {
        for _ in 0..dice.below(8) {
            acts.push((at + dice.between((0, 2 * SECOND)), Act::Cancel { pick: dice.roll() }));
        }
    }
    acts
}

fn faults(sites: &[SitePlan], workers: usize, busy: Us, dice: &mut Dice) -> Vec<(Us, Fault)> {
    let mut faults = Vec::new();
    for _ in 0..dice.below(9) {
        let at = dice.between((SECOND, busy));
        // What is broken is whole again before it is quiet.
        let span = dice.between((100 * MS, 9 * SECOND)).min(busy - at + SECOND);
        let worker = dice.below(workers as u64) as usize;
        let fault = match dice.below(11) {
            0 | 1 => Fault::CrashGateway { down: span.min(4 * SECOND), forgets: dice.chance(60) },
            2 => Fault::StallGateway(span),
            3 | 4 => Fault::CrashWorker { worker, down: span },
            5 => Fault::StallWorker { worker, span },
            6 => Fault::CutOff { worker, site: dice.below(sites.len() as u64) as usize, span },
            7 => Fault::CutFromGateway { worker, span },
            8 | 9 => Fault::JumpClock(i64::try_from(dice.below(120_000)).unwrap_or_default() - 60_000),
            _ => Fault::Rot { pick: dice.roll() },
        };
        faults.push((at, fault));
    }
    faults
}
