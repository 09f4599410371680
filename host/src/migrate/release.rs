//! Releases of Higress, which differ in what the same configuration means.

use clap::ValueEnum;

/// What several elements of `rule_items` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Release {
    /// Up to 2.2.3: the first rule that matches decides.
    #[value(name = "2.2.3")]
    UpTo223,
    /// From 2.2.4 on: every rule that matches is enforced, up to ten of them, and a threshold beside them.
    #[value(name = "2.2.4")]
    From224,
}

/// The greatest number of `rule_items` from 2.2.4 on.
pub(super) const ITEMS_MAX: usize = 10;

/// What is known of the release of one configuration.
pub(super) enum DetectedRelease {
    /// Told, or to be seen from the configuration itself, with the reason in that case.
    Release(Release, Option<String>),
    /// The configuration means two things.
    Either,
    /// It means nothing to any release that it can be of: why.
    Neither(String),
}

/// Which release a configuration with these parts is to be read for.
pub(super) fn known(told: Option<Release>, has_threshold: bool, items: usize) -> DetectedRelease {
    let needs_224 = has_threshold && items > 0;
    let needs_223 = items > ITEMS_MAX;
    match told {
        Some(Release::UpTo223) if needs_224 => DetectedRelease::Neither(
            "expected one of `global_threshold` and `rule_items`: both together are for releases from 2.2.4 on"
                .to_owned(),
        ),
        Some(Release::From224) if needs_223 => {
            DetectedRelease::Neither(format!("expected at most {ITEMS_MAX} `rule_items`, got {items}"))
        }
        Some(release) => DetectedRelease::Release(release, None),
        None if needs_224 && needs_223 => DetectedRelease::Neither(format!(
            "expected at most {ITEMS_MAX} `rule_items` beside `global_threshold`, got {items}"
        )),
        None if needs_224 => {
            let reason = "has `global_threshold` beside `rule_items`, as only releases from 2.2.4 on allow: read as \
                          these read it";
            DetectedRelease::Release(Release::From224, Some(reason.to_owned()))
        }
        None if needs_223 => {
            let reason = format!("has {items} `rule_items`, as only releases up to 2.2.3 allow: read as these read it");
            DetectedRelease::Release(Release::UpTo223, Some(reason))
        }
        None if items > 1 => DetectedRelease::Either,
        None => DetectedRelease::Release(Release::UpTo223, None),
    }
}
