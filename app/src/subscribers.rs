//! Whoever subscribed to a public status page is told what it says: a task of its own, beside the alerts and never before them.
//!
//! What there is to tell is worked out from what the page shows ([`crate::web::news`]) and written down with a parcel for everybody in one
//! transaction; only then anything is sent. Parcels go out page by page, a few pages at a time, each slowly: thousands of letters at once would
//! be taken for spam, and alerts go by the same server. A page whose server is ill waits as a whole. Whoever takes a parcel has it alone for two
//! minutes, so that a crash repeats at most the letters in hand, under the same Message-ID; what was not taken within a day is no news any more.
//!
//! Addresses are in no log. The secret of a link is made for one attempt and stored as a hash before it leaves.

use crate::channel::Retry;
use crate::channel::email::{Mailer, WhyUnposted, post_address};
use crate::channel::webhook::{self, call_url};
use crate::clock::Clock;
use crate::config::PageSubscribers;
use crate::lease::Leases;
use crate::net::Net;
use crate::spec::{Fleet, OwnedPage, Pages};
use crate::store::{PageParcel, PageWord, ParcelEnd, Store, StoreError, SubscriberKind, TenantScope};
use crate::web::{News, Told, document, hash_of, letter, news};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use watchkeeper_core::{Dur, Micros, TenantId};

/// How often is looked for what is to be sent; and for what is new on pages, which is read from the store for each of them.
const SEND_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often subscribers of pages in force are kept, and those removed whom nothing keeps.
const KEEP_EVERY: Duration = Duration::from_hours(1);

/// Pages that send at a time. More would be more connections to servers that alerts use too; fewer would have one slow server hold up others.
const LANES_MAX: usize = 8;

/// Letters that are taken in hand at a time: as many are repeated after a crash at most.
const BATCH: usize = 10;

/// After so many batches a page is looked up anew: its configuration may have changed.
const BATCHES_MAX: usize = 6;

/// Between two letters of a page: ten a second at most. Faster is taken for spam; slower tells five thousand people after more than a quarter of an hour.
const PACE: Duration = Duration::from_millis(100);

/// A page whose mail server did not take a letter sends no other for so long.
const PAUSE: Dur = Dur::secs(30);

/// The first pause of a letter that was not taken, which doubles, and the longest.
const FIRST: Dur = Dur::secs(60);
const LONGEST: Dur = Dur::secs(3_600);

/// Random bytes of a link.
const LINK_BYTES: usize = 32;

/// Letters in hand may take so long to end when the program does.
const GRACE: Duration = Duration::from_secs(4);

/// A page of the installation, and a way in which its subscribers are told: those who are told in another way do not wait for these.
type Key = (TenantId, String, SubscriberKind);

/// The task.
pub struct Teller {
    /// Where subscribers are, and what they are to be told.
    pub store: Arc<dyn Store>,
    /// The way out.
    pub net: Arc<Net>,
    /// UTC.
    pub clock: Clock,
    /// Whether it is ours to tell.
    pub leases: Leases,
    /// The lease under which that is done.
    pub lease: &'static str,
    /// The pages in force.
    pub pages: watch::Receiver<Pages>,
    /// The monitors in force.
    pub fleet: watch::Receiver<Fleet>,
}

/// What is known while the lease is ours.
#[derive(Default)]
struct Known {
    told: HashMap<(TenantId, String), Told>,
    paused: HashMap<Key, Micros>,
    busy: HashSet<Key>,
    looked: Option<Instant>,
    kept: Option<Instant>,
}

/// Whether something is to be done again.
fn due(last: Option<Instant>, every: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= every)
}

impl Teller {
    /// Tells until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut known, mut lanes) = (Known::default(), JoinSet::new());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = lanes.join_next(), if !lanes.is_empty() => known.ended(ended),
                Ok(()) = self.pages.changed() => known.looked = None,
                () = tokio::time::sleep(SEND_EVERY) => {}
            }
            if self.leases.fence(self.lease).is_none() {
                known = Known { busy: known.busy, ..Known::default() };
                continue;
            }
            let Some(pages) = self.pages.borrow_and_update().0.clone() else { continue };
            let pages: Vec<Arc<OwnedPage>> = pages.iter().filter(|page| page.mail.is_some()).cloned().collect();
            if let Err(error) = self.turn(&mut known, &pages, &mut lanes, &stop).await {
                tracing::warn!(error = %crate::chain(&error), "subscribers of status pages could not be looked after; trying again");
            }
        }
        let _ = tokio::time::timeout(GRACE, async { while lanes.join_next().await.is_some() {} }).await;
    }

    async fn turn(
        &self,
        known: &mut Known,
        pages: &[Arc<OwnedPage>],
        lanes: &mut JoinSet<(Key, Option<Micros>)>,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        if due(known.kept, KEEP_EVERY) {
            for page in pages {
                self.store.subscribers().keep_page(TenantScope(page.tenant), &page.config.slug, self.clock.now()).await?;
            }
            self.store.subscribers().expire_subscribers(self.clock.now()).await?;
            known.kept = Some(Instant::now());
        }
        if due(known.looked, LOOK_EVERY) {
            known.told.retain(|(tenant, slug), _| pages.iter().any(|page| page.tenant == *tenant && page.config.slug == *slug));
            for page in pages {
                self.look(known, page).await?;
            }
            known.looked = Some(Instant::now());
        }
        if !pages.is_empty() {
            self.send(known, pages, lanes, stop).await?;
        }
        Ok(())
    }

    /// Writes down what is new on a page.
    async fn look(&self, known: &mut Known, page: &OwnedPage) -> Result<(), StoreError> {
        let (scope, slug) = (TenantScope(page.tenant), &page.config.slug);
        let key = (page.tenant, slug.clone());
        if !known.told.contains_key(&key) {
            let read = |word: PageWord| serde_json::from_str::<News>(&word.body).ok().map(|news| (word.key, news));
            let words = self.store.subscribers().page_words(scope, slug).await?.into_iter().filter_map(read).collect();
            known.told.insert(key.clone(), Told::of(words));
        }
        let Some(told) = known.told.get_mut(&key) else { return Ok(()) };
        let now = self.clock.now();
        let mutes = self.store.mutes(page.tenant, now).await?;
        let fleet = self.fleet.borrow().clone();
        for new in news(page, &fleet, &mutes, told, now) {
            let body = serde_json::to_string(&new.news).expect("texts and times are JSON");
            let word = PageWord { key: new.key, body };
            if self.store.subscribers().tell_page(scope, slug, &word, new.untold, now).await? && !new.untold {
                tracing::info!(page = %slug, word = %word.key, "subscribers of the status page {slug} are told: {}", new.news.title);
            }
            told.words.insert(word.key, new.news);
        }
        Ok(())
    }

    /// Lets pages send that have something to send.
    async fn send(
        &self,
        known: &mut Known,
        pages: &[Arc<OwnedPage>],
        lanes: &mut JoinSet<(Key, Option<Micros>)>,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        known.paused.retain(|_, until| now < *until);
        for key in self.store.subscribers().pages_due(now, crate::store::PAGE_MAX).await? {
            if known.busy.len() >= LANES_MAX {
                break;
            }
            if known.paused.contains_key(&key) || known.busy.contains(&key) {
                continue;
            }
            let Some(page) = pages.iter().find(|page| page.tenant == key.0 && page.config.slug == key.1) else { continue };
            let Some(lane) = Lane::of(self, page, key.2) else { continue };
            known.busy.insert(key.clone());
            let stop = stop.clone();
            lanes.spawn(async move { (key, lane.run(&stop).await) });
        }
        Ok(())
    }
}

impl Known {
    fn ended(&mut self, ended: Result<(Key, Option<Micros>), tokio::task::JoinError>) {
        match ended {
            Ok((key, pause)) => {
                self.busy.remove(&key);
                self.paused.extend(pause.map(|until| (key, until)));
            }
            // What panics once is not tried at once again by all the others: the program ends, and what is in hand is due again later.
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

/// What sends for one page.
struct Lane {
    store: Arc<dyn Store>,
    net: Arc<Net>,
    clock: Clock,
    page: Arc<OwnedPage>,
    subscribers: PageSubscribers,
    way: Way,
}

/// How its subscribers are told.
enum Way {
    Mail(Box<Mailer>),
    Hooks,
}

/// Whether the next letter is worth an attempt.
enum Next {
    Go,
    Pause,
}

impl Lane {
    fn of(teller: &Teller, page: &Arc<OwnedPage>, kind: SubscriberKind) -> Option<Self> {
        let (config, of_mail) = page.mail.clone()?;
        let (way, guard) = match kind {
            SubscriberKind::Email => (Way::Mail(Box::new(Mailer::new(config))), of_mail),
            SubscriberKind::Webhook => (Way::Hooks, page.hooks),
        };
        Some(Self {
            store: teller.store.clone(),
            net: Arc::new(teller.net.under(guard)),
            clock: teller.clock.clone(),
            page: page.clone(),
            subscribers: page.config.subscribers.clone()?,
            way,
        })
    }

    /// Sends what is due, or some of it; until when the page must wait.
    async fn run(self, stop: &CancellationToken) -> Option<Micros> {
        let scope = TenantScope(self.page.tenant);
        for _ in 0..BATCHES_MAX {
            let Ok(links) = (0..BATCH).map(|_| new_link()).collect::<Result<Vec<String>, _>>() else {
                tracing::warn!("the operating system gave no random bytes for links to subscribers");
                return Some(self.clock.now() + PAUSE);
            };
            let hashes: Vec<[u8; 32]> = links.iter().map(|link| hash_of(link)).collect();
            let taken = self.store.subscribers().take_parcels(scope, &self.page.config.slug, self.kind(), &hashes, self.clock.now()).await;
            let parcels = match taken {
                Ok(parcels) if parcels.is_empty() => return None,
                Ok(parcels) => parcels,
                Err(error) => return Some(self.ill(&error)),
            };
            for (parcel, link) in parcels.iter().zip(&links) {
                if stop.is_cancelled() {
                    return None;
                }
                let (end, next) = self.attempt(parcel, link).await;
                if let Err(error) = self.store.subscribers().end_parcel(scope, parcel.id, end).await {
                    return Some(self.ill(&error));
                }
                match next {
                    Next::Go => _ = stop.run_until_cancelled(tokio::time::sleep(PACE)).await,
                    Next::Pause => return Some(self.clock.now() + PAUSE),
                }
            }
        }
        None
    }

    fn ill(&self, error: &StoreError) -> Micros {
        let slug = &self.page.config.slug;
        tracing::warn!(page = %slug, error = %crate::chain(error), "letters to subscribers of the status page {slug} wait for the store");
        self.clock.now() + PAUSE
    }

    const fn kind(&self) -> SubscriberKind {
        match self.way {
            Way::Mail(_) => SubscriberKind::Email,
            Way::Hooks => SubscriberKind::Webhook,
        }
    }

    async fn attempt(&self, parcel: &PageParcel, link: &str) -> (ParcelEnd, Next) {
        let news = parcel.word.as_ref().map(|word| serde_json::from_str::<News>(&word.body)).transpose();
        let Ok(news) = news else { return (ParcelEnd::GivenUp, Next::Go) };
        let told = match &self.way {
            Way::Mail(mailer) => self.post(mailer, parcel, news.as_ref(), link).await,
            Way::Hooks => self.call(parcel, news.as_ref(), link).await,
        };
        let Err((why, end, next)) = told else { return (ParcelEnd::Taken, Next::Go) };
        let slug = &self.page.config.slug;
        tracing::info!(page = %slug, subscriber = %parcel.subscriber, "a subscriber of the status page {slug} was not told: {why}");
        (end, next)
    }

    /// By mail; why not, and what then.
    async fn post(&self, mailer: &Mailer, parcel: &PageParcel, news: Option<&News>, link: &str) -> Result<(), (String, ParcelEnd, Next)> {
        let to = post_address(&parcel.address).ok_or_else(|| (NO_ADDRESS.to_owned(), ParcelEnd::GivenUp, Next::Go))?;
        let post = letter(&self.page.config, &self.subscribers, parcel, news, (to, link), self.clock.now());
        mailer.post(&self.net, &post).await.map_err(|unposted| {
            let (end, next) = match unposted.why {
                WhyUnposted::NoSuchAddress => (ParcelEnd::NoSuchAddress, Next::Go),
                WhyUnposted::Letter => (ParcelEnd::GivenUp, Next::Go),
                WhyUnposted::NotNow => (self.again(parcel), Next::Go),
                WhyUnposted::Server => (self.again(parcel), Next::Pause),
            };
            (unposted.refused.text, end, next)
        })
    }

    /// By a call; why not, and what then.
    async fn call(&self, parcel: &PageParcel, news: Option<&News>, link: &str) -> Result<(), (String, ParcelEnd, Next)> {
        let url = call_url(&parcel.address).ok_or_else(|| (NO_ADDRESS.to_owned(), ParcelEnd::GivenUp, Next::Go))?;
        let (key, document) = document(&self.page.config, &self.subscribers, parcel, news, link);
        webhook::call(&self.net, &url, &key, &document).await.map_err(|refused| {
            let gone = refused.retry == Retry::Never;
            (refused.text, if gone { ParcelEnd::NoSuchAddress } else { self.again(parcel) }, Next::Go)
        })
    }

    fn again(&self, parcel: &PageParcel) -> ParcelEnd {
        ParcelEnd::Again(self.clock.now() + pause(parcel.attempts))
    }
}

/// Of what an older program may have stored.
const NO_ADDRESS: &str = "its address is none";

/// After so many attempts.
fn pause(attempts: i64) -> Dur {
    let doublings = u32::try_from(attempts.saturating_sub(1).clamp(0, 20)).unwrap_or_default();
    Dur(FIRST.0.saturating_mul(1 << doublings).min(LONGEST.0))
}

/// A secret that nobody can guess.
fn new_link() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; LINK_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour() {
        assert_eq!([1, 2, 3, 7, 99].map(pause), [60, 120, 240, 3_600, 3_600].map(Dur::secs));
    }

    #[test]
    fn links_are_long_and_never_the_same() {
        let (one, other) = (new_link().unwrap(), new_link().unwrap());
        assert!(one.len() == 43 && one != other && one.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
    }
}
