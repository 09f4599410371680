//! What may stand where in a document, as the table of fields says.

use alloc::vec::Vec;

use crate::table::{Shape, chain, gateway};

/// What may stand at one place; nothing where nobody reads.
#[derive(Debug, Clone, Default)]
pub struct Shapes(Vec<&'static Shape>);

impl Shapes {
    /// A file of the gateway.
    pub fn gateway() -> Shapes {
        Shapes::of([&Shape::Object(&gateway::GATEWAY)])
    }

    /// A configuration of the filter, or a list of them.
    pub fn filter() -> Shapes {
        Shapes::of([&chain::DOCUMENT])
    }

    fn of(shapes: impl IntoIterator<Item = &'static Shape>) -> Shapes {
        let mut all = Shapes::default();
        shapes.into_iter().for_each(|shape| all.add(shape));
        all
    }

    fn add(&mut self, shape: &'static Shape) {
        match shape {
            Shape::Either(shapes) => shapes.iter().for_each(|shape| self.add(shape)),
            Shape::Optional(shape) => self.add(shape),
            Shape::Some(one, _) => {
                self.0.push(shape);
                self.add(one);
            }
            shape => self.0.push(shape),
        }
    }

    /// In a field of this name of what stands here.
    pub fn field(&self, name: &str) -> Shapes {
        Shapes::of(self.0.iter().filter_map(|shape| match shape {
            Shape::Object(table) => table.fields().find(|field| field.name == name).map(|field| &field.value),
            Shape::Map(_, value, _) => Some(*value),
            _ => None,
        }))
    }

    /// In an element of what stands here.
    pub fn element(&self) -> Shapes {
        Shapes::of(self.0.iter().filter_map(|shape| match shape {
            Shape::List(element, _) | Shape::Some(element, _) => Some(*element),
            _ => None,
        }))
    }

    /// Whether a single value may stand here, and neither only an object nor only an array.
    pub fn is_single(&self) -> bool {
        self.0
            .iter()
            .any(|shape| !matches!(shape, Shape::Object(_) | Shape::Map(..) | Shape::List(..) | Shape::Some(..)))
    }

    /// Whether the URL of a Redis may stand here.
    pub fn is_redis_url(&self) -> bool {
        self.0.iter().any(|shape| matches!(shape, Shape::RedisUrl))
    }

    /// Whether any name may stand here.
    pub fn has_any_name(&self) -> bool {
        self.0.iter().any(|shape| matches!(shape, Shape::Map(..)))
    }

    /// Whether nothing may stand here.
    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_knows_what_may_stand_there() {
        let at = |path: &[&str]| {
            path.iter().fold(Shapes::gateway(), |shapes, step| match *step {
                "[]" => shapes.element(),
                name => shapes.field(name),
            })
        };
        for (path, is_single) in [
            (&["redis"][..], true),
            (&["redis", "names"], false),
            (&["redis", "names", "any"], true),
            (&["redis", "names", "any", "password"], true),
            (&["filter"], false),
            (&["filter", "filters", "[]", "_rules_", "[]", "rule_items", "[]", "limit_keys", "[]", "key"], true),
            (&["filters", "[]", "rule_items", "limit_keys", "key"], true),
            (&["filters", "[]", "session", "secrets", "[]"], true),
            (&["filter", "exempt", "headers", "x", "[]"], true),
            (&["routes", "[]"], false),
            (&["admin"], true),
        ] {
            assert_eq!((at(path).is_nothing(), at(path).is_single()), (false, is_single), "{path:?}");
        }
        for path in [
            &["pasword"][..],
            &["redis", "names", "any", "key", "x"],
            &["listen", "[]"],
            &["filter", "redis", "hash_ky"],
        ] {
            assert!(at(path).is_nothing() && !at(path).is_single(), "{path:?}");
        }
        assert!(at(&["redis", "names", "any"]).is_redis_url() && at(&["redis"]).is_redis_url());
        assert!(at(&["redis", "url"]).is_redis_url() && !at(&["redis", "username"]).is_redis_url());
        assert!(at(&["filter", "exempt", "headers"]).has_any_name() && !at(&["redis"]).has_any_name());
        assert!(!Shapes::filter().field("rule_name").is_nothing());
    }
}
