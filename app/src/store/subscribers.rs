//! Subscribers of public status pages: what both stores promise about them.
//!
//! Addresses belong to people: they are here, in the words to their owners, and in the lists of the page's administrators, and nowhere else. A
//! subscription that nobody confirmed is told nothing, and goes by itself; one that is ended is gone with its row. No link is stored: of each
//! the SHA-256, so that what is stored confirms nothing and ends nothing.
//!
//! What there is to tell is written once, under a key of its own, together with one parcel for everybody who is subscribed at that moment. A
//! parcel is in one hand for a while: whoever takes it moves the time at which it is due again, so that a crash in between only delays it.

use super::{Result, TenantScope};
use async_trait::async_trait;
use watchkeeper_core::{Dur, Micros, TenantId};

/// Confirmed subscribers of one page. More belong to a service for mailings, and take longer to be told than most outages last.
pub const SUBSCRIBERS_MAX: i64 = 5_000;

/// Subscriptions of one page that nobody confirmed yet. More would let strangers fill the table; fewer would keep people out in a bad hour.
pub const PENDING_MAX: i64 = 500;

/// Webhooks of one page, confirmed or not. Each may be slow, and they are called one after another.
pub const WEBHOOKS_MAX: i64 = 100;

/// So long a subscription waits for being confirmed, and its link is good. Longer keeps addresses of people who want nothing; shorter misses
/// those who read their mail in the evening.
pub const CONFIRM_WITHIN: Dur = Dur::secs(24 * 3_600);

/// A link that ends a subscription is good for so long. Whoever reads older mail finds it in a newer one.
pub const LEAVE_WITHIN: Dur = Dur::secs(400 * 86_400);

/// An address of a page is asked to confirm so often within [`ASKED_WITHIN`] at most: strangers could have it flooded otherwise.
pub const ASKED_MAX: i64 = 3;
/// See [`ASKED_MAX`].
pub const ASKED_WITHIN: Dur = Dur::secs(3_600);

/// A subscriber goes so long after its page was last in force with subscribers. Shorter would lose them by a slip in a file.
pub const KEPT_WITHOUT_PAGE: Dur = Dur::secs(30 * 86_400);

/// Whoever takes a parcel has it alone for so long. Shorter than an attempt would send twice; longer would delay what a crash left.
pub const IN_HAND: Dur = Dur::secs(120);

/// A parcel that could not be sent within so long of its word is given up: news of yesterday is none.
pub const GIVEN_UP_AFTER: Dur = Dur::secs(24 * 3_600);

/// After so many refusals for good one after another, an address is taken for gone. One may be a server's mistake.
pub const REFUSALS_MAX: i64 = 3;

/// What was told is remembered for so long: what is still on a page must not be told anew.
pub const WORDS_KEPT: Dur = Dur::secs(400 * 86_400);

/// How somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscriberKind {
    /// By e-mail.
    Email,
    /// By `POST` to a URL.
    Webhook,
}

impl SubscriberKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Email, Self::Webhook];

    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Webhook => "webhook",
        }
    }

    /// Reads the stored word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPurpose {
    /// Confirms the subscription.
    Confirm,
    /// Ends it.
    Leave,
}

impl LinkPurpose {
    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Leave => "leave",
        }
    }

    /// Reads the stored word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Confirm, Self::Leave].into_iter().find(|purpose| purpose.as_str() == word)
    }
}

/// Somebody who asks to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSubscriber {
    /// Public id, if it is a new one.
    pub uid: String,
    /// How.
    pub kind: SubscriberKind,
    /// Where.
    pub address: String,
}

/// Whether it was noted. It does not tell whether the address was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    /// It will be asked to confirm, unless it was lately, or has.
    Noted,
    /// The page has as many subscribers as it may have.
    Full,
}

/// A subscriber as the page's administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriberView {
    /// Row id, for paging.
    pub id: i64,
    /// Public id.
    pub uid: String,
    /// How it is told.
    pub kind: SubscriberKind,
    /// Where.
    pub address: String,
    /// When it asked.
    pub created_at: Micros,
    /// When it was confirmed.
    pub confirmed_at: Option<Micros>,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageWord {
    /// Unique on the page: the same again is the same word.
    pub key: String,
    /// What it says, as JSON.
    pub body: String,
}

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageParcel {
    /// Row id.
    pub id: i64,
    /// The subscriber's public id.
    pub subscriber: String,
    /// How.
    pub kind: SubscriberKind,
    /// Where.
    pub address: String,
    /// What to tell; that the subscription is to be confirmed, if it is nothing.
    pub word: Option<PageWord>,
    /// When it was decided.
    pub created_at: Micros,
    /// How often it was in hand, with this time.
    pub attempts: i64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParcelEnd {
    /// It was taken.
    Taken,
    /// It may be taken then.
    Again(Micros),
    /// It will never be taken.
    GivenUp,
    /// There is no such address, says its server: of one that is not confirmed the subscription is gone, else after [`REFUSALS_MAX`] of them.
    NoSuchAddress,
}

/// The contract.
#[async_trait]
pub trait Subscribers: Send + Sync {
    /// Notes that an address asks to be told, and that it is to be asked whether that is so.
    async fn subscribe(&self, scope: TenantScope, page: &str, new: &NewSubscriber, now: Micros) -> Result<Subscribed>;
    /// What a link of this page does, if it is good.
    async fn link(&self, scope: TenantScope, page: &str, hash: &[u8; 32], now: Micros) -> Result<Option<LinkPurpose>>;
    /// Does it, once: a link that confirms is no longer good afterwards, and of who left nothing is there. `None` if it is not good.
    async fn follow(&self, scope: TenantScope, page: &str, hash: &[u8; 32], now: Micros) -> Result<Option<LinkPurpose>>;
    /// Subscribers of a page after a row id, oldest first.
    async fn subscribers(&self, scope: TenantScope, page: &str, after: Option<i64>, limit: i64) -> Result<Vec<SubscriberView>>;
    /// Removes one. False if there is none.
    async fn remove_subscriber(&self, scope: TenantScope, page: &str, uid: &str) -> Result<bool>;
    /// Removes everybody and everything of a page: it is gone.
    async fn forget_page(&self, scope: TenantScope, page: &str) -> Result<()>;
    /// What was told on a page.
    async fn page_words(&self, scope: TenantScope, page: &str) -> Result<Vec<PageWord>>;
    /// Writes a word, with a parcel for everybody who has confirmed. False if it is there already: then nothing is done. A word that is
    /// `untold` is for nobody.
    async fn tell_page(&self, scope: TenantScope, page: &str, word: &PageWord, untold: bool, now: Micros) -> Result<bool>;
    /// Pages for which something is due, and how it is to be told, at most `limit`.
    async fn pages_due(&self, now: Micros, limit: i64) -> Result<Vec<(TenantId, String, SubscriberKind)>>;
    /// Takes what is due for a page in hand that is told in this way, oldest first: as many as there are links, each of which is good from now on for what its parcel
    /// needs. Those that are too old go instead.
    async fn take_parcels(
        &self,
        scope: TenantScope,
        page: &str,
        kind: SubscriberKind,
        links: &[[u8; 32]],
        now: Micros,
    ) -> Result<Vec<PageParcel>>;
    /// Notes how it ended.
    async fn end_parcel(&self, scope: TenantScope, parcel: i64, end: ParcelEnd) -> Result<()>;
    /// Keeps the subscribers of a page that is in force.
    async fn keep_page(&self, scope: TenantScope, page: &str, now: Micros) -> Result<()>;
    /// Removes what is kept no longer: how many rows.
    async fn expire_subscribers(&self, now: Micros) -> Result<u64>;
}
