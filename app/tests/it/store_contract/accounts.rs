//! Accounts: users and what they may do in which tenant, sessions, the first user's codes, second factors, tokens, the audit log.

use super::world::*;
use crate::support::store::each_store;
use watchkeeper::store::accounts::{AUDIT_AGE, SESSION_IDLE, SESSION_LIFE, SESSIONS_MAX, SETUP_AGE};
use watchkeeper::store::*;
use watchkeeper_core::{Dur, Micros};

fn user(name: &str, role: &str) -> NewUser {
    let (uid, login) = (format!("uid-{name}"), name.to_lowercase());
    NewUser { uid, name: name.into(), login, password: Some(format!("hash of {name}")), role: role.into() }
}

fn begun(hash: u8, user: UserId, scope: TenantScope, password: &str) -> NewSession<'_> {
    NewSession { hash: [hash; 32], user, tenant: scope.0, address: "192.0.2.1", password: Some(password) }
}

async fn id_of(accounts: &dyn Accounts, login: &str) -> UserId {
    accounts.account(login).await.unwrap().expect("there is such an account").id
}

async fn names(accounts: &dyn Accounts, scope: TenantScope) -> Vec<(String, String, bool)> {
    accounts.users(scope).await.unwrap().into_iter().map(|user| (user.name, user.role, user.home)).collect()
}

fn said(name: &str, role: &str, home: bool) -> (String, String, bool) {
    (name.into(), role.into(), home)
}

#[tokio::test]
async fn the_first_user_is_made_once_with_a_code_that_is_still_good() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let accounts = |w: &World| w.t.store.clone();
        let store = accounts(&w);
        let a = store.accounts();
        assert!(!a.has_users().await.unwrap() && !a.setup_offered(T0).await.unwrap());
        assert!(a.offer_setup("a", &[1; 32], T0).await.unwrap());
        assert!(a.offer_setup("b", &[2; 32], sec(1)).await.unwrap(), "each node has one");
        assert!(a.offer_setup("a", &[3; 32], sec(2)).await.unwrap(), "a start replaces the one of before");
        assert!(a.setup_offered(sec(3)).await.unwrap());
        let ann = user("Ann", "admin");
        assert_eq!(a.set_up(&[1; 32], w.acme(), &ann, sec(3)).await.unwrap(), None, "it was replaced");
        assert_eq!(a.set_up(&[9; 32], w.acme(), &ann, sec(3)).await.unwrap(), None, "it never was");
        assert_eq!(a.set_up(&[2; 32], w.acme(), &ann, sec(1) + SETUP_AGE).await.unwrap(), None, "it is too old");
        assert!(!a.setup_offered(sec(2) + SETUP_AGE).await.unwrap());
        let id = a.set_up(&[2; 32], w.acme(), &ann, sec(3)).await.unwrap().expect("it is good");
        assert_eq!(a.set_up(&[3; 32], w.acme(), &user("Eve", "admin"), sec(3)).await.unwrap(), None, "there is a user");
        assert!(!a.offer_setup("a", &[4; 32], sec(4)).await.unwrap() && !a.setup_offered(sec(4)).await.unwrap());
        drop(store);
        w.t.reopen().await;
        let store = accounts(&w);
        assert!(store.accounts().has_users().await.unwrap());
        assert_eq!(id_of(store.accounts(), "ann").await, id);
    })
    .await;
}

#[tokio::test]
async fn of_many_who_would_be_the_first_user_at_once_one_is() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let other = w.t.as_another_node().await;
        for nth in 0..8_u8 {
            w.store().accounts().offer_setup(&format!("node {nth}"), &[nth; 32], T0).await.unwrap();
        }
        let scope = w.acme();
        let tries = (0..8_u8).map(|nth| {
            let store = if nth % 2 == 0 { w.t.store.clone() } else { other.clone() };
            tokio::spawn(async move {
                let eve = user(&format!("user {nth}"), "admin");
                store.accounts().set_up(&[nth; 32], scope, &eve, sec(1)).await.unwrap().is_some()
            })
        });
        let mut made = 0;
        for one in tries.collect::<Vec<_>>() {
            made += usize::from(one.await.unwrap());
        }
        assert_eq!((made, w.store().accounts().users(scope).await.unwrap().len()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn users_are_members_of_tenants_and_belong_to_one() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let a = w.store().accounts();
        assert!(a.create_user(w.acme(), &user("Ann", "admin"), T0).await.unwrap());
        assert!(a.create_user(w.zenith(), &user("zoe", "viewer"), sec(1)).await.unwrap());
        let again = NewUser { uid: "other".into(), ..user("aNN", "viewer") };
        assert!(!a.create_user(w.zenith(), &again, sec(1)).await.unwrap(), "names are the installation's");
        assert_eq!(names(a, w.acme()).await, [said("Ann", "admin", true)]);
        assert_eq!(names(a, w.zenith()).await, [said("zoe", "viewer", true)]);

        assert!(a.admit_user(w.zenith(), "ann", "viewer").await.unwrap() && !a.admit_user(w.zenith(), "bob", "viewer").await.unwrap());
        assert_eq!(names(a, w.zenith()).await, [said("Ann", "viewer", false), said("zoe", "viewer", true)]);
        let slugs = |found: Vec<(_, String, String)>| found.into_iter().map(|(_, slug, role)| (slug, role)).collect::<Vec<_>>();
        let ann = id_of(a, "ann").await;
        assert_eq!(slugs(a.memberships(ann).await.unwrap()), [("acme".into(), "admin".into()), ("zenith".into(), "viewer".into())]);

        // Zenith's administrators change what Ann may do there, and nothing else of hers.
        let role = |role: &str| UserChange { role: Some(role.into()), ..UserChange::default() };
        assert!(a.change_user(w.zenith(), "uid-Ann", &role("operator")).await.unwrap());
        for beyond in [UserChange { password: Some("stolen".into()), ..role("admin") }, UserChange { without_totp: true, ..role("admin") }]
        {
            assert!(!a.change_user(w.zenith(), "uid-Ann", &beyond).await.unwrap());
        }
        assert!(!a.change_user(w.acme(), "uid-zoe", &role("admin")).await.unwrap(), "no member");
        assert_eq!(names(a, w.zenith()).await[0], said("Ann", "operator", false));
        assert_eq!(names(a, w.acme()).await, [said("Ann", "admin", true)]);
        assert_eq!(a.account("ann").await.unwrap().unwrap().password.as_deref(), Some("hash of Ann"));

        // Who is removed elsewhere keeps the account; who is removed at home has none.
        assert!(a.remove_user(w.zenith(), "uid-Ann").await.unwrap() && !a.remove_user(w.zenith(), "uid-Ann").await.unwrap());
        assert_eq!(names(a, w.acme()).await, [said("Ann", "admin", true)]);
        a.admit_user(w.zenith(), "ann", "admin").await.unwrap();
        assert!(a.remove_user(w.acme(), "uid-Ann").await.unwrap());
        assert_eq!(names(a, w.zenith()).await, [said("zoe", "viewer", true)]);
        assert_eq!(a.account("ann").await.unwrap(), None);
        assert_eq!(a.account("zo\0e").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_session_lasts_while_it_is_used_and_not_beyond_its_life() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let a = w.store().accounts();
        a.create_user(w.acme(), &user("ann", "operator"), T0).await.unwrap();
        let ann = id_of(a, "ann").await;
        assert!(!a.open_session(&begun(1, ann, w.acme(), "another hash"), T0).await.unwrap(), "the password has changed meanwhile");
        assert!(!a.open_session(&begun(1, ann, w.zenith(), "hash of ann"), T0).await.unwrap(), "no member there");
        assert!(a.open_session(&begun(1, ann, w.acme(), "hash of ann"), T0).await.unwrap());
        let found = a.session(&[1; 32], sec(5)).await.unwrap().unwrap();
        assert_eq!((found.user, found.uid.as_str(), found.tenant, found.role.as_str()), (ann, "uid-ann", w.acme, "operator"));
        assert_eq!((found.seen_at, found.totp), (T0, false));
        assert_eq!(a.session(&[2; 32], sec(5)).await.unwrap(), None);

        let last = T0 + SESSION_IDLE - Dur(1);
        assert!(a.session(&[1; 32], last).await.unwrap().is_some());
        assert!(a.session(&[1; 32], T0 + SESSION_IDLE).await.unwrap().is_none(), "it was not used");
        a.touch_session(&[1; 32], last).await.unwrap();
        assert!(a.session(&[1; 32], T0 + SESSION_IDLE).await.unwrap().is_some(), "it was used");
        assert_eq!(a.users(w.acme()).await.unwrap()[0].seen_at, Some(last));
        a.touch_session(&[1; 32], T0 + SESSION_LIFE).await.unwrap();
        assert!(a.session(&[1; 32], T0 + SESSION_LIFE - Dur(1)).await.unwrap().is_some());
        assert!(a.session(&[1; 32], T0 + SESSION_LIFE).await.unwrap().is_none(), "used or not");

        // What may be done is what may be done now.
        a.change_user(w.acme(), "uid-ann", &UserChange { role: Some("viewer".into()), ..UserChange::default() }).await.unwrap();
        assert_eq!(a.session(&[1; 32], sec(5)).await.unwrap().unwrap().role, "viewer");
        a.end_session(&[1; 32]).await.unwrap();
        assert_eq!(a.session(&[1; 32], sec(5)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn another_password_ends_the_other_sessions_and_so_does_removal() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let a = w.store().accounts();
        for name in ["ann", "bob"] {
            a.create_user(w.acme(), &user(name, "admin"), T0).await.unwrap();
        }
        a.admit_user(w.zenith(), "ann", "viewer").await.unwrap();
        let (ann, bob) = (id_of(a, "ann").await, id_of(a, "bob").await);
        let sessions = [(1, ann, w.acme()), (2, ann, w.acme()), (3, ann, w.zenith()), (9, bob, w.acme())];
        for (hash, id, scope) in sessions {
            let password = if id == ann { "hash of ann" } else { "hash of bob" };
            assert!(a.open_session(&begun(hash, id, scope, password), T0).await.unwrap());
        }
        let lasting = async |hashes: &[u8]| {
            let mut found = vec![];
            for hash in hashes {
                found.extend(a.session(&[*hash; 32], sec(1)).await.unwrap().map(|_| *hash));
            }
            found
        };
        a.set_password(ann, "new", Some(&[2; 32])).await.unwrap();
        assert_eq!(lasting(&[1, 2, 3, 9]).await, [2, 9]);
        assert!(!a.open_session(&begun(4, ann, w.acme(), "hash of ann"), T0).await.unwrap(), "the old password is no more");
        assert!(a.open_session(&begun(4, ann, w.zenith(), "new"), T0).await.unwrap());
        a.remove_user(w.zenith(), "uid-ann").await.unwrap();
        assert_eq!(lasting(&[2, 4, 9]).await, [2, 9], "in the tenant that she was removed from");
        let reset = UserChange { password: Some("reset".into()), ..UserChange::default() };
        assert!(a.change_user(w.acme(), "uid-ann", &reset).await.unwrap());
        assert_eq!(lasting(&[2, 9]).await, [9], "an administrator's reset ends them all");
        a.remove_user(w.acme(), "uid-bob").await.unwrap();
        assert_eq!(lasting(&[9]).await, [0; 0]);
    })
    .await;
}

#[tokio::test]
async fn one_user_has_so_many_sessions_and_the_longest_unused_gives_way() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let a = w.store().accounts();
        a.create_user(w.acme(), &user("ann", "admin"), T0).await.unwrap();
        let ann = id_of(a, "ann").await;
        for nth in 0..SESSIONS_MAX as u8 {
            a.open_session(&begun(nth, ann, w.acme(), "hash of ann"), sec(i64::from(nth))).await.unwrap();
        }
        a.touch_session(&[0; 32], sec(100)).await.unwrap();
        a.open_session(&begun(200, ann, w.acme(), "hash of ann"), sec(101)).await.unwrap();
        assert!(a.session(&[0; 32], sec(101)).await.unwrap().is_some(), "it was used");
        assert!(a.session(&[1; 32], sec(101)).await.unwrap().is_none(), "it was not");
        assert!(a.session(&[2; 32], sec(101)).await.unwrap().is_some() && a.session(&[200; 32], sec(101)).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn a_second_factor_is_confirmed_and_no_code_is_taken_twice() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let a = w.store().accounts();
        a.create_user(w.acme(), &user("ann", "admin"), T0).await.unwrap();
        let ann = id_of(a, "ann").await;
        assert!(a.begin_totp(ann, b"first").await.unwrap() && a.begin_totp(ann, b"second").await.unwrap());
        assert!(!a.confirm_totp(ann, b"first", 7, &[]).await.unwrap(), "it was begun anew");
        assert!(!a.spend_totp(ann, 8).await.unwrap(), "it is not asked for yet");
        assert!(a.confirm_totp(ann, b"second", 7, &[[1; 32], [2; 32]]).await.unwrap());
        assert!(!a.confirm_totp(ann, b"second", 8, &[[3; 32]]).await.unwrap() && !a.begin_totp(ann, b"third").await.unwrap(), "it stands");
        let totp = a.account("ann").await.unwrap().unwrap().totp.unwrap();
        assert_eq!((totp.on, totp.step, totp.secret.as_slice()), (true, 7, &b"second"[..]));
        assert!(!format!("{totp:?}").contains("115"), "it is not shown: {totp:?}");
        assert!(!a.spend_totp(ann, 7).await.unwrap(), "the code that confirmed it was used up");
        assert!(a.spend_totp(ann, 9).await.unwrap() && !a.spend_totp(ann, 9).await.unwrap() && !a.spend_totp(ann, 8).await.unwrap());
        assert!(a.spend_recovery(ann, &[1; 32]).await.unwrap() && !a.spend_recovery(ann, &[1; 32]).await.unwrap());
        assert!(!a.spend_recovery(ann, &[3; 32]).await.unwrap());
        a.end_totp(ann).await.unwrap();
        assert_eq!(a.account("ann").await.unwrap().unwrap().totp, None);
        assert!(!a.spend_recovery(ann, &[2; 32]).await.unwrap(), "gone with it");
    })
    .await;
}

#[tokio::test]
async fn a_tenant_has_no_more_tokens_than_it_may() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let a = w.store().accounts();
        let two = |name: &'static str, hash: &'static [u8; 32]| NewToken { most: 2, ..token(name, "viewer", hash, "wk_aaa", None) };
        a.create_token(w.acme(), &two("a", &[1; 32]), T0).await.unwrap();
        a.create_token(w.acme(), &two("b", &[2; 32]), T0).await.unwrap();
        let refused = a.create_token(w.acme(), &two("c", &[3; 32]), T0).await.unwrap_err();
        assert!(refused.to_string().contains("there are 2 tokens already, and the limit is 2"), "{refused}");
        a.create_token(w.zenith(), &two("z", &[4; 32]), T0).await.unwrap();
        assert_eq!(a.tokens(w.acme()).await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn second_factors_are_read_in_slices_and_sealed_only_over_what_was_read() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let a = w.store().accounts();
        for (scope, name) in [(w.acme(), "ann"), (w.acme(), "bob"), (w.zenith(), "zoe")] {
            a.create_user(scope, &user(name, "admin"), T0).await.unwrap();
        }
        let (ann, zoe) = (id_of(a, "ann").await, id_of(a, "zoe").await);
        assert!(a.begin_totp(ann, b"of ann").await.unwrap() && a.begin_totp(zoe, b"of zoe").await.unwrap());
        let first = a.second_factors(UserId(i64::MIN), 1).await.unwrap();
        assert_eq!(first, [(ann, w.acme, b"of ann".to_vec())]);
        assert_eq!(a.second_factors(ann, 10).await.unwrap(), [(zoe, w.zenith, b"of zoe".to_vec())], "bob has none");
        assert!(!a.reseal_second_factor(ann, b"another", b"sealed").await.unwrap(), "it was begun anew meanwhile");
        assert!(a.reseal_second_factor(ann, b"of ann", b"sealed").await.unwrap());
        assert_eq!(a.account("ann").await.unwrap().unwrap().totp.unwrap().secret, b"sealed");
        assert_eq!(a.account("zoe").await.unwrap().unwrap().totp.unwrap().secret, b"of zoe");
    })
    .await;
}

#[tokio::test]
async fn tokens_are_listed_and_ended_by_their_own_tenant() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let a = w.store().accounts();
        let by = NewToken { made_by: Some("ann"), ..token("ci", "operator", &[1; 32], "wk_abc", Some(sec(9))) };
        a.create_token(w.acme(), &by, T0).await.unwrap();
        a.create_token(w.zenith(), &token("z", "viewer", &[2; 32], "wk_zzz", None), T0).await.unwrap();
        let [ci] = &a.tokens(w.acme()).await.unwrap()[..] else { panic!("one of acme's") };
        assert_eq!((ci.made_by.as_deref(), ci.created_at, ci.token.expires_at), (Some("ann"), T0, Some(sec(9))));
        assert_eq!((ci.token.name.as_str(), ci.token.prefix.as_str()), ("ci", "wk_abc"));
        let foreign = a.tokens(w.zenith()).await.unwrap()[0].id;
        assert_eq!(a.revoke_token(w.acme(), foreign).await.unwrap(), None);
        assert_eq!(a.revoke_token(w.acme(), ci.id).await.unwrap().as_deref(), Some("ci"));
        assert_eq!(a.token(&[1; 32]).await.unwrap(), None);
        assert!(a.token(&[2; 32]).await.unwrap().is_some());
    })
    .await;
}

fn deed(action: &str) -> Deed {
    let text = |text: &str| text.to_owned();
    Deed { actor: text("ann"), via: text("session"), address: text("192.0.2.1"), action: text(action), detail: String::new(), status: None }
}

#[tokio::test]
async fn the_audit_log_is_the_tenants_own_and_says_how_it_ended() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let store = w.t.store.clone();
        let a = store.accounts();
        let first = a.audit(w.acme(), &deed("POST /a"), sec(1)).await.unwrap();
        let cut_off = a.audit(w.acme(), &deed("POST /b"), sec(2)).await.unwrap();
        let foreign = a.audit(w.zenith(), &Deed { status: Some(200), ..deed("POST /z") }, sec(3)).await.unwrap();
        a.audited(w.acme(), first, 201, "shop").await.unwrap();
        a.audited(w.acme(), foreign, 500, "not theirs").await.unwrap();
        let log = a.audit_log(w.acme(), None, 10).await.unwrap();
        let want = Deed { status: Some(201), detail: "shop".into(), ..deed("POST /a") };
        assert_eq!(log, [AuditRow { id: cut_off, at: sec(2), deed: deed("POST /b") }, AuditRow { id: first, at: sec(1), deed: want }]);
        assert_eq!(a.audit_log(w.acme(), Some(cut_off), 10).await.unwrap(), log[1..]);
        assert_eq!(a.audit_log(w.acme(), None, 1).await.unwrap(), log[..1]);
        assert_eq!(a.audit_log(w.zenith(), None, 10).await.unwrap()[0].deed.status, Some(200), "nobody else's to change");
        drop(store);

        w.housekeep(sec(1) + AUDIT_AGE + Dur(1)).await;
        let a = w.store().accounts();
        assert_eq!(a.audit_log(w.acme(), None, 10).await.unwrap().iter().map(|row| row.id).collect::<Vec<_>>(), [cut_off]);
    })
    .await;
}

#[tokio::test]
async fn sessions_and_codes_that_are_over_are_deleted() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let a = w.store().accounts();
        a.offer_setup("a", &[1; 32], T0).await.unwrap();
        let over: Micros = T0 + SETUP_AGE;
        w.housekeep(over).await;
        assert_eq!(w.t.number("SELECT count(*) FROM wk_setup").await, 0);
        let a = w.store().accounts();
        a.create_user(w.acme(), &user("ann", "admin"), T0).await.unwrap();
        let ann = id_of(a, "ann").await;
        a.open_session(&begun(1, ann, w.acme(), "hash of ann"), over).await.unwrap();
        a.open_session(&begun(2, ann, w.acme(), "hash of ann"), over + SESSION_IDLE).await.unwrap();
        w.housekeep(over + SESSION_IDLE).await;
        assert_eq!(w.t.number("SELECT count(*) FROM wk_session").await, 1);
    })
    .await;
}
