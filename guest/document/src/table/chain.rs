//! Several filters in one configuration.

use super::{Condition, Field, Shape, Table, cache, filter, session, vault};

/// What stands at the top in place of one filter.
pub const FIELDS: [Field; 1] = [Field::new(
    "filters",
    ["Filters", "过滤器列表"],
    Shape::List(&LINK, 1),
    "",
    "alone or beside `_plugin_id_`: an ordered list of such configurations, see [several filters](#several-filters)",
)
.ours()];

/// One filter of a list.
pub const LINK: Shape = Shape::Either(&[
    Shape::Object(&filter::FILTER),
    Shape::Object(&session::FILTER_OBJECT),
    Shape::Object(&vault::FILTER_OBJECT),
    Shape::Object(&cache::FILTER_OBJECT),
]);

/// A filter, or a list of them.
pub const DOCUMENT: Shape = Shape::Either(&[LINK, Shape::Object(&CHAIN)]);

/// A list of filters.
pub const CHAIN: Table = Table {
    name: "filters",
    groups: &[&FIELDS, filter::PLUGIN_ID],
    conditions: &[Condition::AnyOf(&[&["filters"]])],
    null_is_nothing: false,
};
