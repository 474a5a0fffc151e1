//! Where the members of a cluster are.

use chassis::settings::Host;
use http::Uri;
use serde::Deserialize;

/// The URLs of the members of one etcd cluster, at least one.
///
/// Each is `http://HOST:PORT` or `https://HOST:PORT` and nothing more: a name and password in
/// the URL would end up in messages.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoints(Vec<Uri>);

impl Endpoints {
    /// The URLs in the order given.
    pub fn urls(&self) -> &[Uri] {
        &self.0
    }

    /// Whether any of them is to be reached over TLS.
    pub fn any_tls(&self) -> bool {
        self.0.iter().any(|url| url.scheme_str() == Some("https"))
    }
}

impl TryFrom<String> for Endpoints {
    type Error = &'static str;

    fn try_from(list: String) -> Result<Self, &'static str> {
        let urls: Option<Vec<Uri>> = list.split(',').map(|url| parse(url.trim())).collect();
        urls.map(Self).ok_or("not a list of URLs")
    }
}

fn parse(text: &str) -> Option<Uri> {
    let url: Uri = text.parse().ok()?;
    let authority = url.authority()?;
    let good = matches!(url.scheme_str(), Some("http" | "https"))
        // Without a port it would be the web's, which is never etcd's.
        && authority.port_u16().is_some_and(|port| port > 0)
        && Host::try_from(authority.host().to_owned()).is_ok()
        && !authority.as_str().contains('@')
        && url.path() == "/"
        && url.query().is_none();
    good.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> Result<Endpoints, &'static str> {
        Endpoints::try_from(list.to_owned())
    }

    #[test]
    fn a_list_of_urls_with_ports_is_read_in_order() {
        let endpoints = read("http://a:2379, https://b.example:1,http://[::1]:2379/").unwrap();
        let urls: Vec<String> = endpoints.urls().iter().map(Uri::to_string).collect();
        assert_eq!(
            urls,
            [
                "http://a:2379/",
                "https://b.example:1/",
                "http://[::1]:2379/"
            ]
        );
        assert!(endpoints.any_tls());
        assert!(!read("http://a:2379").unwrap().any_tls());
    }

    #[test]
    fn what_is_not_such_a_list_is_refused() {
        for bad in [
            "",
            ",",
            "http://a:1,",
            "a:2379",
            "a",
            "http://a",
            "http://a:0",
            "http://10.0.0.256:2379",
            "http://a..b:2379",
            "http://a:65536",
            "http://:2379",
            "ftp://a:2379",
            "http://a:2379/path",
            "http://a:2379?q",
            "http://user:hush@a:2379",
            "http://a:1 http://b:1",
            "tcp://10.0.0.1:2379",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
