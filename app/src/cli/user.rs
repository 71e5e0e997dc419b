//! `watchkeeper user …`: people who may sign in, for whoever is at the machine itself. It works on the store, not on a running server; so
//! nobody is locked out, and with SQLite the server must be stopped for it.
//!
//! A password is never an argument, because everybody on a machine sees those: it is asked for on the terminal, which does not show it,
//! or read from standard input or a file.

use super::commands::{ConfigArgs, env};
use super::term::safe_line;
use super::{Ended, say};
use crate::clock::Clock;
use crate::config::DEFAULT_TENANT;
use crate::store::{self, Accounts, Deed, NewUser, Store, StoreError, TenantScope, UserChange, UserView};
use crate::web::auth::Role;
use crate::web::auth::password::{self, Hidden};
use crate::web::sign_in::login_of;
use crate::web::types::Time;
use crate::web::users::accepted_name;
use anyhow::{Context as _, anyhow, bail};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Read, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use watchkeeper_core::Micros;

/// What can be done.
#[derive(Debug, clap::Subcommand)]
pub enum UserCommand {
    /// Make one
    Create {
        /// The name to sign in with
        name: String,
        /// What the user may do: viewer, operator or admin
        #[arg(long, default_value = "admin")]
        role: String,
        #[command(flatten)]
        secret: Secret,
        #[command(flatten)]
        at: At,
    },
    /// Show them
    List {
        #[command(flatten)]
        at: At,
    },
    /// Set another password; every session of the user ends
    Password {
        /// The user's name
        name: String,
        /// Forget the second factor too, for whoever has lost it
        #[arg(long)]
        without_second_factor: bool,
        #[command(flatten)]
        secret: Secret,
        #[command(flatten)]
        at: At,
    },
    /// Change what a user may do; makes a user of another tenant a member of this one
    Role {
        /// The user's name
        name: String,
        /// viewer, operator or admin
        role: String,
        #[command(flatten)]
        at: At,
    },
    /// Remove one
    Remove {
        /// The user's name
        name: String,
        #[command(flatten)]
        at: At,
    },
}

/// Where the password comes from.
#[derive(Debug, clap::Args)]
pub struct Secret {
    /// A file whose first line is the password; `-` is standard input. Without it the terminal is asked
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Whose user, and where the store is.
#[derive(Debug, clap::Args)]
pub struct At {
    /// Whose
    #[arg(long, default_value = DEFAULT_TENANT)]
    tenant: String,
    #[command(flatten)]
    config: ConfigArgs,
}

/// `watchkeeper user …`.
pub async fn run(command: UserCommand) -> Result<(), Ended> {
    let at = match &command {
        UserCommand::Create { at, .. }
        | UserCommand::List { at }
        | UserCommand::Password { at, .. }
        | UserCommand::Role { at, .. }
        | UserCommand::Remove { at, .. } => at,
    };
    let (config, _) = at.config.load()?;
    let store = store::open(&config.store.url.text()).await.context("the store could not be opened")?;
    let said = on(&store, &command, at, Clock::system().now()).await;
    store.close().await;
    say(&said?)
}

async fn on(store: &Arc<dyn Store>, command: &UserCommand, at: &At, now: Micros) -> anyhow::Result<String> {
    let tenants = store.tenants().await?;
    let Some((id, _)) = tenants.iter().find(|(_, slug)| *slug == at.tenant) else {
        let known: Vec<&str> = tenants.iter().map(|(_, slug)| slug.as_str()).collect();
        let known = if known.is_empty() { "none yet: start the server once".to_owned() } else { known.join(", ") };
        bail!("there is no tenant `{}`; there are {known}", at.tenant);
    };
    let (accounts, scope) = (store.accounts(), TenantScope(*id));
    match command {
        UserCommand::Create { name, role, secret, .. } => {
            let name = accepted_name(name).map_err(|refused| anyhow!(refused.message))?;
            let role = known_role(role)?;
            let password = Some(secret.hashed(&name)?);
            let (uid, login) = (uuid::Uuid::new_v4().to_string(), login_of(&name));
            let user = NewUser { uid, name: name.clone(), login, password, role: role.as_str().to_owned() };
            if !accounts.create_user(scope, &user, now).await.map_err(spoken)? {
                bail!("there is a user named {name} already; `watchkeeper user role` makes it a member of another tenant");
            }
            note(accounts, scope, "user create", &format!("{name}, {}", role.as_str()), now).await?;
            Ok(format!("{name} may sign in, as {} of {}\n", role.as_str(), at.tenant))
        }
        UserCommand::List { .. } => Ok(table(&accounts.users(scope).await?)),
        UserCommand::Password { name, without_second_factor, secret, .. } => {
            let user = member(accounts, scope, name).await?;
            if !user.home {
                bail!("the account of {} belongs to another tenant: name that one with --tenant", user.name);
            }
            let password = Some(secret.hashed(&user.name)?);
            let change = UserChange { role: None, password, without_totp: *without_second_factor };
            if !accounts.change_user(scope, &user.uid, &change).await? {
                bail!("there is no user named {name} any more");
            }
            note(accounts, scope, "user password", &user.name, now).await?;
            Ok(format!("{} has another password; every session has ended\n", user.name))
        }
        UserCommand::Role { name, role, .. } => {
            let role = known_role(role)?;
            if !accounts.admit_user(scope, &login_of(name), role.as_str()).await.map_err(spoken)? {
                bail!("there is no user named {name}; `watchkeeper user create` makes one");
            }
            note(accounts, scope, "user role", &format!("{name}, {}", role.as_str()), now).await?;
            Ok(format!("{name} is {} of {}\n", role.as_str(), at.tenant))
        }
        UserCommand::Remove { name, .. } => {
            let user = member(accounts, scope, name).await?;
            accounts.remove_user(scope, &user.uid).await?;
            note(accounts, scope, "user remove", &user.name, now).await?;
            let what = if user.home { "has no account any more" } else { "is no member any more" };
            Ok(format!("{} {what}\n", user.name))
        }
    }
}

/// What the store refuses, it says itself.
fn spoken(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Refused(why) => anyhow!(why),
        StoreError::Unavailable { .. } | StoreError::Broken { .. } | StoreError::NotYet | StoreError::NotInForce | StoreError::Outdated => {
            error.into()
        }
    }
}

fn known_role(word: &str) -> anyhow::Result<Role> {
    let known = || Role::ALL.map(Role::as_str).join(", ");
    Role::from_word(word).with_context(|| format!("`{word}` is not a role; accepted are {}", known()))
}

async fn member(accounts: &dyn Accounts, scope: TenantScope, name: &str) -> anyhow::Result<UserView> {
    let found = accounts.users(scope).await?.into_iter().find(|user| login_of(&user.name) == login_of(name));
    found.with_context(|| format!("there is no user named {name} in this tenant"))
}

/// The audit log has it like everything else: who is the user of the system.
async fn note(accounts: &dyn Accounts, scope: TenantScope, action: &str, detail: &str, now: Micros) -> anyhow::Result<()> {
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(env).find(|name| !name.trim().is_empty());
    let deed = Deed {
        actor: user.unwrap_or_else(|| "somebody".to_owned()),
        via: "command line".to_owned(),
        address: String::new(),
        action: action.to_owned(),
        detail: detail.to_owned(),
        status: Some(200),
    };
    accounts.audit(scope, &deed, now).await?;
    Ok(())
}

fn table(users: &[UserView]) -> String {
    if users.is_empty() {
        return "there is no user\n".to_owned();
    }
    let mut out = String::new();
    for user in users {
        let seen = user.seen_at.map_or_else(|| "not signed in".to_owned(), |at| format!("seen {}", Time(at)));
        let factor = if user.totp { ", second factor" } else { "" };
        let elsewhere = if user.home { "" } else { ", account of another tenant" };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:<8}  {}  ({seen}{factor}{elsewhere})", user.role, safe_line(&user.name));
    }
    out
}

impl Secret {
    /// The stored form of the password that was given.
    fn hashed(&self, name: &str) -> anyhow::Result<String> {
        let password = self.read()?;
        if let Some(fault) = password::fault_of(&password, name) {
            bail!(fault);
        }
        Ok(password::hash(&password)?)
    }

    fn read(&self) -> anyhow::Result<Hidden> {
        match &self.password_file {
            Some(path) if path.as_os_str() != "-" => {
                let file = std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
                first_line(file)
            }
            None if std::io::stdin().is_terminal() => {
                let (first, second) = (asked("Password: ")?, asked("Once more: ")?);
                if first != second {
                    bail!("the two are not the same");
                }
                Ok(first)
            }
            Some(_) | None => first_line(std::io::stdin()),
        }
    }
}

/// A longer line is no password.
const LINE_MAX: u64 = 1_024;

fn first_line(from: impl Read) -> anyhow::Result<Hidden> {
    let mut line = String::new();
    std::io::BufReader::new(from.take(LINE_MAX)).read_line(&mut line).context("the password cannot be read")?;
    Ok(Hidden(line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Asks on the terminal, which shows nothing of what is typed.
fn asked(question: &str) -> anyhow::Result<Hidden> {
    let terminal = std::io::stdin();
    let before = tcgetattr(&terminal).context("the terminal cannot be asked")?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    silent.local_modes.insert(LocalModes::ECHONL);
    let mut err = std::io::stderr();
    err.write_all(question.as_bytes()).and_then(|()| err.flush()).context("the terminal cannot be asked")?;
    tcsetattr(&terminal, OptionalActions::Flush, &silent).context("the terminal would show the password")?;
    let mut line = String::new();
    let read = terminal.lock().read_line(&mut line);
    tcsetattr(&terminal, OptionalActions::Now, &before).context("the terminal cannot be set back")?;
    read.context("the password cannot be read")?;
    Ok(Hidden(line.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password() {
        let of = |text: &'static str| first_line(text.as_bytes()).unwrap().0;
        assert_eq!(of("four plain words\r\nsecond\n"), "four plain words");
        assert_eq!(of(" with blanks "), " with blanks ");
        assert_eq!(of(""), "");
    }
}
