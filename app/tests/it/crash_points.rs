//! Crash points: the program is stopped at every await of the one flow, and started anew on the same store.
//!
//! The flow: services fail, incidents open, a webhook is told; the services are well again, the incidents are resolved, the
//! webhook is told; the webhook takes a message at once, or only after it has refused it, hung or cut the connection. One
//! service's words come alone; those of many come together, as digests: in a storm, and over a cap.
//! First the flow runs undisturbed, and every call to the store, the services and the webhook is counted. Then it runs once for
//! each of these calls, stopped just before it or just after it took effect: the program is dropped as `kill -9` would drop it,
//! and a second life must end the flow as if nothing had happened.

use crate::support::crash::{On, Scene, Tried, all_of, has_postgres};
use crate::support::outside::{Act, Play, Told, service_name};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use watchkeeper::store::IncidentView;

/// From the failing check to the decision.
const DECIDING: &[&str] = &["target", "commit", "due_notices", "next_due", "mutes", "recent_messages"];
/// From the decision to the webhook's answer, and its record.
const TELLING: &[&str] = &["begin_attempt", "provider", "end_attempt", "defer"];
/// The call itself, and its record.
const CALLING: &[&str] = &["begin_attempt", "provider", "end_attempt"];
/// The whole way.
const WHOLE: &[&str] =
    &["target", "commit", "due_notices", "next_due", "mutes", "recent_messages", "begin_attempt", "provider", "end_attempt", "defer"];

const WELL: &[(&str, Act)] = &[];
const REFUSES: &[(&str, Act)] = &[("opened", Act::TooMany), ("opened", Act::Cuts), ("resolved", Act::Fails)];
const HANGS: &[(&str, Act)] = &[("resolved", Act::Hangs)];
const REFUSES_DIGESTS: &[(&str, Act)] =
    &[("digest of opened", Act::TooMany), ("digest of opened", Act::Cuts), ("digest of both", Act::Fails)];
const HANGS_AT_DIGESTS: &[(&str, Act)] = &[("digest of opened", Act::Hangs)];
const CUTS_DIGESTS: &[(&str, Act)] = &[("digest of opened", Act::Cuts)];

#[test]
fn no_crash_point_loses_or_doubles_an_incident() {
    let one = |on, acts, calls| Scene { on, play: Play { services: 1, late: 0, acts }, budget: "", calls, tried: Tried::First(5) };
    let telling = |on| [REFUSES, HANGS].map(|acts| one(on, acts, TELLING));
    let mut scenes = vec![one(On::Sqlite, WELL, &[])];
    scenes.extend(telling(On::Sqlite));
    if has_postgres() {
        scenes.push(one(On::Postgres, WELL, DECIDING));
        scenes.extend(telling(On::Postgres));
    }
    let calls = ["commit", "begin_attempt", "end_attempt", "provider", "target", "take_lease", "apply", "join", "reserve_ids", "close"];
    try_all(&scenes, &calls, false);
}

#[test]
fn no_crash_point_loses_or_doubles_a_word_of_a_digest() {
    let scene = |on, play, calls| Scene { on, play, budget: "", calls, tried: Tried::Spread(5) };
    // What comes after the first digest is gathered for the next: it must not be mixed with a digest that is repeated.
    let storm = |on, acts: &'static [(&'static str, Act)], calls| {
        scene(on, Play { services: 16, late: 2 * usize::from(!acts.is_empty()), acts }, calls)
    };
    // The first word, one digest for each half of the flow, and one of them again.
    let capped = |on| Scene { budget: "4/min", ..scene(on, Play { services: 6, late: 0, acts: CUTS_DIGESTS }, CALLING) };
    let mut scenes = vec![
        storm(On::Sqlite, WELL, WHOLE),
        storm(On::Sqlite, REFUSES_DIGESTS, CALLING),
        storm(On::Sqlite, HANGS_AT_DIGESTS, &["provider", "end_attempt"]),
        capped(On::Sqlite),
    ];
    if has_postgres() {
        scenes.extend([storm(On::Postgres, WELL, TELLING), storm(On::Postgres, REFUSES_DIGESTS, CALLING), capped(On::Postgres)]);
    }
    let calls = ["commit", "begin_attempt", "end_attempt", "provider", "target", "defer", "due_notices"];
    try_all(&scenes, &calls, true);
}

/// Runs every scene undisturbed, and then once for each of its moments. They must come by these calls, and each by digests of
/// beginnings and of ends if it is about them.
fn try_all(scenes: &[Scene], calls: &[&str], digests: bool) {
    let (mut moments, problems) = (BTreeSet::new(), Mutex::new(Vec::new()));
    for (scene, ran) in all_of(&scenes.iter().map(|scene| (*scene, None)).collect::<Vec<_>>(), check, &problems) {
        println!("{:?} {:?} calls {:?}", scene.on, scene.play, ran.calls);
        for event in ["opened", "resolved"] {
            let gathered = |told: &Told| told.event.starts_with("digest") && told.words.iter().any(|(_, of)| of == event);
            assert_eq!(ran.told.iter().any(gathered), digests, "{scene:?}: a digest with {event}: {:#?}", ran.told);
        }
        moments.extend(ran.calls.into_iter().flat_map(|(call, count)| scene.moments(call, count)));
    }
    for call in calls {
        assert!(moments.iter().any(|(_, moment)| moment.is_some_and(|m| m.call == *call)), "the flow never came by {call}");
    }
    let count = moments.len();
    let ran = all_of(&moments.into_iter().collect::<Vec<_>>(), check, &problems);
    let stopped = ran.iter().filter(|(_, ran)| ran.stopped).count();
    println!("{count} crash points, {stopped} of them reached");
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{} crash points fail:\n{}", problems.len(), problems.join("\n"));
    // Time may bring a call less in one run than in another, but not many.
    assert!(stopped * 10 >= count * 9, "of {count} crash points only {stopped} were reached");
}

/// What must be true at the end, whatever happened: of each service one incident, which began and ended; of each of its two words
/// that it was taken, that a crash repeats no message but the one in hand, and that one under its key; of their order that nobody
/// hears of an end whose beginning was not taken before.
fn check(scene: Scene, all: &[IncidentView], told: &[Told], crashed: bool) -> Result<(), String> {
    let names: BTreeSet<String> = (0..scene.play.services).map(service_name).collect();
    if all.len() != names.len() || all.iter().map(|incident| incident.monitor.clone()).collect::<BTreeSet<_>>() != names {
        return Err("there is not exactly one incident of each service".into());
    }
    for incident in all {
        let story = incident.timeline.iter().map(|e| e.kind.as_str()).filter(|kind| ["opened", "resolved"].contains(kind));
        if incident.status != "resolved" || !story.eq(["opened", "resolved"]) {
            return Err(format!("the incident of {} was not opened once and resolved once", incident.monitor));
        }
        if incident.notices.len() != 2 || incident.notices.iter().any(|notice| notice.state != "sent") {
            return Err(format!("the notices about {} were not two that were sent", incident.monitor));
        }
    }
    if told.iter().any(|message| message.more > 0) {
        return Err("a digest does not name all that it is about".into());
    }
    let mut keys: BTreeMap<(usize, &str), BTreeSet<&str>> = BTreeMap::new();
    for (message, (service, event)) in told.iter().flat_map(|message| message.words.iter().map(move |word| (message, word))) {
        keys.entry((*service, event)).or_default().insert(&message.key);
    }
    let wanted: BTreeSet<(usize, &str)> = (0..scene.play.services).flat_map(|nth| [(nth, "opened"), (nth, "resolved")]).collect();
    if !keys.keys().eq(wanted.iter()) {
        return Err("not all were told of, or of something else".into());
    }
    if let Some((word, keys)) = keys.iter().find(|(_, keys)| keys.len() > 1) {
        return Err(format!("a repetition of {word:?} has another key: {keys:?}"));
    }
    let taken: Vec<&Told> = told.iter().filter(|message| message.taken).collect();
    let times = |of: &str| taken.iter().filter(|message| message.key == of).count();
    if let Some((word, _)) = keys.iter().find(|(_, keys)| keys.iter().all(|key| times(key) == 0)) {
        return Err(format!("{word:?} was lost"));
    }
    let distinct: BTreeSet<&str> = taken.iter().map(|message| message.key.as_str()).collect();
    if taken.len() > distinct.len() + usize::from(crashed) {
        return Err("more was told again than one crash explains".into());
    }
    // Also what was not taken: nobody hears of the end before the beginning, nor of the beginning after the end.
    for service in 0..scene.play.services {
        let places = |event: &str, taken: bool| {
            let has = move |message: &Told| message.words.iter().any(|(of, which)| *of == service && which == event);
            told.iter()
                .enumerate()
                .filter(move |(_, message)| (!taken || message.taken) && has(message))
                .map(|(place, _)| place)
                .collect::<Vec<_>>()
        };
        let first_end = places("resolved", false)[0];
        if places("opened", true)[0] > first_end || places("opened", false).iter().any(|place| *place > first_end) {
            return Err(format!("the end of {} was told before the beginning", service_name(service)));
        }
    }
    Ok(())
}
