//! The demo of a cache, in front of a backend that can be killed.

use serde_json::{Value, json};

use super::place::{DemoPlace, REDIS_SERVICE};

/// Whoever has a cookie has pages of their own, and all outlive the backend by an hour.
pub(super) fn filter() -> Value {
    json!({"filters": [{"cache": {
        "key": {"group": {"cookie": "session"}},
        "stale_if_error": "1h",
        "fallback": {"status": 503, "content_type": "text/plain", "body": "We are back soon, says the demo.\n"},
        "redis": {"service_name": REDIS_SERVICE},
    }}]})
}

pub(super) fn guide(DemoPlace { url, admin, redis, .. }: &DemoPlace) -> String {
    format!(
        "Slidegate's demo of a cache is at {url}, in front of a backend that takes 300 ms for a page.
Pages are kept in {redis}, for all gateways that have the same one.
Press Enter here, and the backend is killed; press it again, and it is started again. (Where this is no terminal, a \
line on standard input does so.)

Try, in another terminal:

  # The first takes 0.3 s, the others next to nothing. It is the same page for three seconds.
  for i in 1 2 3; do curl -s -w '%{{time_total}} s\\n' {url}/; done

  # Which of them it was, the answer says in a word and, for programs, as RFC 9211 has it.
  curl -s -o /dev/null -D - {url}/ | grep -iE '^(HTTP|age|cache-status|x-cache)'

  # Twenty ask at once for what is not there yet: one of them fetches it for all.
  seq 20 | xargs -P 20 -I@ curl -s {url}/article | sort | uniq -c

  # What the backend wants nobody to keep is made for each.
  for i in 1 2; do curl -s {url}/live; done

  # What is private is kept for who has the same cookie, which ought to be one that nobody can guess.
  for user in alice bob alice; do curl -s -b session=$user {url}/me; done

Now press Enter here:

  # The backend is gone. The page goes on, fresh at first, and then stale.
  for i in $(seq 10); do curl -s -o /dev/null -D - {url}/ | grep -iE '^(HTTP|x-cache)' | tr -d '\\r' | xargs; sleep \
  0.5; done

  # So does what is alice's. What is not there is answered with what the configuration has for that.
  curl -s -b session=alice {url}/me; curl -si {url}/live | grep -E '^(HTTP|We)'

And once more:

  # A backend that was away is asked once a second, and then ever more seldom, down to once in eight.
  until curl -si {url}/ | grep -qi '^x-cache: EXPIRED'; do sleep 0.2; done; curl -s {url}/

  # What it counts.
  curl -s {admin}/metrics | grep ^slidegate_cache

Ctrl-C ends it. With a file of your own: slidegate init --for cache, slidegate check FILE, slidegate serve FILE.

"
    )
}
