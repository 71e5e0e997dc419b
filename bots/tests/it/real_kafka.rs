//! What the mock broker cannot show: topics made and removed over the wire. Runs where `WATCHKEEPER_KAFKA` says where a broker is that may
//! be used for tests; otherwise it says that it was left out. `./prove bots` does the same on a broker of its own.

use crate::topics;
use std::time::Duration;
use watchkeeper_bots::kafka::Brokers;

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_once_measured_and_removed() {
    let Ok(list) = std::env::var("WATCHKEEPER_KAFKA") else {
        println!("skipped: WATCHKEEPER_KAFKA is not set");
        return;
    };
    topics::check(Brokers { list, session: Duration::from_secs(6) }).await;
}
