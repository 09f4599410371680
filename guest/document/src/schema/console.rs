//! What Higress' console makes a form of: `spec.yaml` beside a plugin's image.

use alloc::{borrow::ToOwned, vec::Vec};

use crate::{
    node::{Content, Member, Node, Span},
    table::{Field, Shape, Table, filter},
};

/// The name, and what it is, in English and in Chinese.
const TITLE: [&str; 2] = ["Slidegate rate limiting", "Slidegate 集群限流"];
const DESCRIPTION: [&str; 2] = [
    "Limits requests of a cluster by true sliding windows, counted in Redis. Takes the configuration of \
     cluster-key-rate-limit.",
    "基于 Redis 真滑动窗口的集群限流插件，兼容 cluster-key-rate-limit 的配置。",
];

/// Fields that the gateway sets itself.
const OF_GATEWAY: [&str; 2] = ["_rules_", "_plugin_id_"];

/// The description of the plugin and of its form, in the order of the table.
pub fn console() -> Node {
    let info = object([
        ("category", text("traffic")),
        ("name", text("slidegate")),
        ("title", text(TITLE[0])),
        ("x-title-i18n", translations(TITLE)),
        ("description", text(DESCRIPTION[0])),
        ("x-description-i18n", translations(DESCRIPTION)),
        ("version", text(env!("CARGO_PKG_VERSION"))),
    ]);
    let form = form_of(&filter::FILTER, Some(example()));
    let schema = object([("openAPIV3Schema", form)]);
    let spec = object([
        ("phase", text("UNSPECIFIED_PHASE")),
        ("priority", Content::Unsigned(20).into()),
        ("configSchema", schema),
    ]);
    object([("apiVersion", text("1.0.0")), ("info", info), ("spec", spec)])
}

fn example() -> Node {
    let key = object([("key", text("*")), ("query_per_minute", Content::Unsigned(100).into())]);
    let item = object([("limit_by_per_header", text("x-api-key")), ("limit_keys", list([key]))]);
    let redis = object([("service_name", text("redis.static"))]);
    object([("rule_name", text("api")), ("rule_items", list([item])), ("redis", redis)])
}

fn text(text: &str) -> Node {
    Content::Text(text.to_owned()).into()
}

fn list(items: impl IntoIterator<Item = Node>) -> Node {
    Content::List(items.into_iter().collect()).into()
}

fn object<'n>(members: impl IntoIterator<Item = (&'n str, Node)>) -> Node {
    let member = |(name, value): (&str, Node)| Member { name: name.to_owned(), name_span: Span::default(), value };
    Content::Object(members.into_iter().map(member).collect()).into()
}

fn translations([english, chinese]: [&str; 2]) -> Node {
    object([("en-US", text(english)), ("zh-CN", text(chinese))])
}

fn form_of(table: &'static Table, example: Option<Node>) -> Node {
    let fields = || table.fields().filter(|field| !OF_GATEWAY.contains(&field.name));
    let required: Vec<Node> = fields().filter(|field| field.is_required).map(|field| text(field.name)).collect();
    let required = (!required.is_empty()).then(|| ("required", list(required)));
    let properties = object(fields().map(|field| (field.name, property(field))));
    let example = example.map(|example| ("example", example));
    object([("type", text("object"))].into_iter().chain(example).chain(required).chain([("properties", properties)]))
}

fn property(field: &'static Field) -> Node {
    let mut property = form(&field.value);
    if let Content::Object(members) = &mut property.content {
        let described = object([
            ("title", text(field.titles[0])),
            ("x-title-i18n", translations(field.titles)),
            ("description", text(&field.plain_doc())),
        ]);
        if let Content::Object(more) = described.content {
            members.splice(1..1, more);
        }
    }
    property
}

/// What a form can show of a value: its plainest spelling.
fn form(shape: &'static Shape) -> Node {
    let number = |number: u64| Content::Unsigned(number).into();
    match shape {
        // Of several kinds all but a flag can be written as a text.
        Shape::Any
        | Shape::Text
        | Shape::Form(_)
        | Shape::Pattern(_)
        | Shape::File
        | Shape::RedisUrl
        | Shape::Either(_) => object([("type", text("string"))]),
        Shape::Flag => object([("type", text("boolean"))]),
        Shape::Whole(least, greatest) => {
            object([("type", text("integer")), ("minimum", number(*least)), ("maximum", number(*greatest))])
        }
        Shape::Share => object([
            ("type", text("number")),
            ("minimum", number(0)),
            ("exclusiveMinimum", Content::Bool(true).into()),
            ("maximum", number(1)),
        ]),
        Shape::Weight => object([("type", text("number")), ("minimum", number(0)), ("maximum", number(1_000_000))]),
        Shape::Choice(words) => object([("type", text("string")), ("enum", list(words.iter().map(|word| text(word))))]),
        Shape::Optional(shape) => form(shape),
        Shape::List(shape, least) | Shape::Some(shape, least) => {
            let least = (*least > 0).then(|| ("minItems", number(*least as u64)));
            object([("type", text("array"))].into_iter().chain(least).chain([("items", form(shape))]))
        }
        Shape::Map(_, shape, _) => object([("type", text("object")), ("additionalProperties", form(shape))]),
        Shape::Object(table) => form_of(table, None),
    }
}
