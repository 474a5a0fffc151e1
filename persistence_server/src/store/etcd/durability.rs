//! Whether a server has on disk what it answered.
//!
//! etcd syncs its log before every answer, unless it was started with `--unsafe-no-fsync`. Its
//! API does not tell; but its metrics count the syncs, and with that flag they stand still.

use std::io;

use http::Uri;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::server;

/// The metric that counts them.
const METRIC: &str = "etcd_disk_wal_fsync_duration_seconds_count";

/// The longest answer that is read, in bytes. A usual one has 150,000.
const LONGEST: u64 = 8 << 20;

/// How often the server at `url` has synced its log so far; none if it does not say.
pub(super) async fn syncs(url: &Uri) -> Option<u64> {
    // Over TLS this would take a second TLS client, beside the one inside of tonic.
    if url.scheme_str() != Some("http") {
        return None;
    }
    find(&read_metrics(url).await.ok()?)
}

async fn read_metrics(url: &Uri) -> io::Result<String> {
    let authority = url.authority().ok_or(io::ErrorKind::InvalidInput)?.as_str();
    let mut stream = server::connect(url).await?;
    // HTTP/1.0, so that the answer comes unchunked and ends with the connection.
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn find(metrics: &str) -> Option<u64> {
    let values = metrics.lines().filter_map(|line| line.strip_prefix(METRIC));
    values.filter_map(|value| value.trim().parse().ok()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_other_metrics() {
        let metrics = format!("# TYPE {METRIC} x\n{METRIC}_of_all 1\n{METRIC} 8024\n");
        assert_eq!(find(&metrics), Some(8024));
        assert_eq!(find("HTTP/1.0 404 Not Found\r\n\r\n"), None);
        assert_eq!(find(&format!("{METRIC} many\n")), None);
    }
}
