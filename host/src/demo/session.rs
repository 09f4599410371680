//! The demo of sessions that the gateway keeps, in front of an upstream that echoes requests and lets everybody log in.

use hyper::Uri;
use serde_json::{Value, json};

use super::place::{DemoPlace, REDIS_SERVICE};

/// Who has logged in has a limit of their own, wherever from; others have none.
pub(super) fn filter() -> Value {
    let redis = json!({"service_name": REDIS_SERVICE});
    json!({"filters": [
        {
            "session": {
                "format": "own",
                "secrets": "of the demo, and so known to everybody",
                "key_prefix": "slidegate-demo:session:",
                "fields": {"user": "x-user", "role": "x-role"},
                "user": "user",
                "max_per_user": 3,
                "redis": redis,
            },
        },
        {
            "rule_name": "demo-users",
            "rule_items": [{"limit_by_per_session": "user", "limit_keys": [{"key": "*", "query_per_minute": 6}]}],
            "show_limit_quota_header": true,
            "headers": ["x-ratelimit", "retry-after"],
            "redis": redis,
        },
    ]})
}

/// What the upstream says of a request's session: `/login?user=NAME` is all it takes here, `/logout` ends it.
pub(super) fn order(target: &Uri) -> Option<String> {
    match target.path() {
        "/login" => {
            let mut pairs = target.query().unwrap_or_default().split('&');
            let user = pairs.find_map(|pair| pair.strip_prefix("user="))?;
            Some(json!({"fields": {"user": user, "role": "reader"}}).to_string())
        }
        "/logout" => Some("delete".to_owned()),
        _ => None,
    }
}

pub(super) fn guide(DemoPlace { url, admin, counts, .. }: &DemoPlace) -> String {
    format!(
        "Slidegate's demo of sessions is at {url}, in front of an upstream that echoes requests.
{counts}
Whoever asks for /login?user=NAME there is logged in: the upstream says so in a header of its response, and the \
gateway keeps
the session. Each user has 6 requests a minute, from all browsers together, and 3 sessions at most.

Try, in another terminal:

  # Nobody: the upstream is told no `x-user`, whatever a client claims.
  curl -s -H 'x-user: root' {url}/hello

  # Log in: the cookie has an id, which nobody can guess, and Redis a digest of it.
  curl -si -c alice.cookies '{url}/login?user=alice' | grep -iE '^(HTTP|set-cookie|x-slidegate)'

  # Recognised: the upstream is told who asks, and not the cookie.
  curl -s -b alice.cookies {url}/hello

  # The limit follows the user: another browser of alice has what the first one left; bob has his own.
  curl -s -o /dev/null -c alice2.cookies '{url}/login?user=alice'; curl -s -o /dev/null -c bob.cookies \
  '{url}/login?user=bob'
  for who in alice alice2 alice alice2 alice alice2 bob; do curl -s -o /dev/null -w \"$who %{{http_code}}\\n\" -b \
  $who.cookies {url}/; done

  # Log out: the cookie is taken back, and who has kept it is nobody.
  curl -s -o /dev/null -b bob.cookies {url}/logout; curl -s -b bob.cookies {url}/hello

  # What it counts.
  curl -s {admin}/metrics | grep ^slidegate_session; rm alice.cookies alice2.cookies bob.cookies

Ctrl-C ends it. With a file of your own: slidegate init --for session, slidegate check FILE, slidegate serve FILE.

"
    )
}
