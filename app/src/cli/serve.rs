//! `serve`: the program as a service, from its configuration to its orderly end; `demo`: the same on a fleet of its own.

use super::commands::{ConfigArgs, env, token_file_of};
use super::{Ended, log, uptime_o};
use crate::app::{App, Given};
use crate::clock::Clock;
use crate::config::{self, Config, DEFAULT_TENANT};
use crate::reload::Source;
use crate::store::TenantScope;
use crate::uptime_o::Variables;
use crate::web::auth;
use crate::web::sign_in::{new_code, plain_code};
use anyhow::{Context as _, anyhow};
use secrecy::{ExposeSecret as _, SecretString};
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Groups of 4 letters in the first user's code: 80 random bits.
const SETUP_GROUPS: usize = 4;

/// Runs until SIGTERM or SIGINT.
pub fn run(args: &ConfigArgs) -> Result<(), Ended> {
    let files = config::find(args.config.as_deref(), &env);
    if let Some(variables) = Variables::read(&env, files.is_some()).map_err(|why| Ended::Usage(anyhow!(why)))? {
        return uptime_o::run(variables, files);
    }
    let (config, path) = args.load()?;
    log::begin();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config, path));
    // What still runs in blocking threads (a hung disk) must not keep the process.
    runtime.shutdown_background();
    Ok(result?)
}

/// Runs the demonstration. Only errors are logged: the screen is its own.
pub fn demo() -> Result<(), Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone())?;
        crate::demo::run(stop).await
    });
    runtime.shutdown_background();
    Ok(result?)
}

async fn serve(config: Config, path: Option<PathBuf>) -> anyhow::Result<()> {
    if let Some(path) = &path {
        tracing::info!(path = %path.display(), "configuration read from {}", path.display());
    } else {
        tracing::info!("no configuration found; starting with the defaults and nothing to watch");
    }
    for warning in config::warnings(&config, Clock::system().now()) {
        tracing::warn!("{warning}");
    }
    let token_file = token_file_of(&config.store.url);
    let app = App::build(config, path.map_or(Source::Fixed, Source::Path), Given::default()).await?;
    first_token(&app, &token_file).await?;
    offer_setup(&app).await?;
    app.pulse.guard().context("the watchdog could not be started")?;
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    tracing::info!(address = %app.address, monitors = app.fleet.borrow().0.len(), "watchkeeper {} is up on http://{}", env!("CARGO_PKG_VERSION"), app.address);
    app.run(stop).await?;
    tracing::info!("stopped in good order");
    Ok(())
}

/// At the first start there is no token yet: one is made, and shown this once.
async fn first_token(app: &App, file: &Path) -> anyhow::Result<()> {
    if let Some(token) = made_token(app, file).await? {
        let text = format!(
            "\n  The API token of this installation (shown this once, kept in {}):\n\n    {}\n\n",
            file.display(),
            token.expose_secret()
        );
        // Standard output, because the log may be shipped elsewhere.
        if super::say(&text).is_err() {
            tracing::warn!("the first API token could not be printed; it is kept in {}", file.display());
        }
    }
    Ok(())
}

/// As long as there is no user, each start prints a code with which somebody becomes the first one, in the page.
async fn offer_setup(app: &App) -> anyhow::Result<()> {
    let code = new_code(SETUP_GROUPS).map_err(|error| anyhow!("no randomness for a code: {error}"))?;
    if !app.store.accounts().offer_setup(&app.name, &auth::hash_of(&plain_code(&code)), app.now()).await? {
        return Ok(());
    }
    let text = format!(
        "\n  There is no user yet. Open http://{} and become the first administrator with this code (good for a day):\n\n    {}\n\n",
        app.address, code.0
    );
    // Standard output, because the log may be shipped elsewhere. Without it there is `watchkeeper user create`.
    if super::say(&text).is_err() {
        tracing::warn!("the code for the first user could not be printed; `watchkeeper user create` makes a user without one");
    }
    Ok(())
}

/// As [`first_token`], where standard output is the log: the token is in its file only.
pub(super) async fn first_token_silently(app: &App, file: &Path) -> anyhow::Result<()> {
    if made_token(app, file).await?.is_some() {
        tracing::info!(path = %file.display(), "the API token of this installation is in {}", file.display());
    }
    Ok(())
}

/// Makes the first token, if there is none, and keeps it in `file`.
pub async fn made_token(app: &App, file: &Path) -> anyhow::Result<Option<SecretString>> {
    let tenants = app.store.tenants().await?;
    let Some((tenant, _)) = tenants.iter().find(|(_, slug)| slug == DEFAULT_TENANT) else { return Ok(None) };
    Ok(auth::first_token(&*app.store, TenantScope(*tenant), file, app.now()).await?)
}

/// The first SIGTERM or SIGINT stops in good order, the second at once.
pub(super) fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                tracing::warn!("stopping at once");
                std::process::exit(1);
            }
            tracing::info!("Shutdown signal received: stopping");
            stop.cancel();
        }
    });
    Ok(())
}
