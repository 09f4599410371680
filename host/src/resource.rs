//! Resources of Kubernetes in a file: one, several documents, or lists of them, as `kubectl get -o yaml` prints them.

mod plugin_document;

use serde_json::Value;
use slidegate_document::{Content, Node};

use crate::settings::document::{self, text, unreadable};
use crate::settings::yaml::{self, Schema};
use crate::settings::{Mistake, json};

pub(crate) use self::plugin_document::{PluginDocument, is_set};

/// The resources of a file, in their order.
#[derive(Debug)]
pub(crate) struct Resources {
    text: String,
    documents: Vec<Node>,
    pub(crate) list: Vec<Resource>,
}

/// A resource as it was read.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) value: Value,
    node: Node,
}

impl Resources {
    /// Mistakes in a resource, with their places, in the order of these; their paths begin with the resource's name.
    pub(crate) fn placed(&self, resource: &Resource, mistakes: Vec<Mistake>) -> Vec<Mistake> {
        let documents: Vec<&Node> = self.documents.iter().collect();
        let mut placed = document::placed(&self.text, &documents, &resource.node, mistakes);
        for mistake in &mut placed {
            mistake.path = if mistake.path.is_empty() {
                resource.name()
            } else {
                format!("{}: {}", resource.name(), mistake.path)
            };
        }
        placed
    }
}

/// The resources in the bytes of a file; none if it is none of Kubernetes' files.
///
/// # Errors
/// It looks like one, and cannot be read.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Resources>, Mistake> {
    let Ok(text) = text(bytes) else { return Ok(None) };
    if !(text.contains("apiVersion") && text.contains("kind")) {
        return Ok(None);
    }
    let documents = match json::read(text) {
        Ok(document) => vec![document],
        Err(_) => yaml::read(text, Schema::Kubernetes).map_err(|error| unreadable(text, error))?,
    };
    let is_resource = |document: &Node| document.get("apiVersion").is_some() && document.get("kind").is_some();
    if !documents.iter().any(is_resource) {
        return Ok(None);
    }
    let resource = |node: Node| Resource { value: serde_json::to_value(&node).unwrap_or_default(), node };
    let list = documents.iter().filter(|document| !document.is_null()).flat_map(listed).map(resource).collect();
    Ok(Some(Resources { text: text.to_owned(), documents, list }))
}

/// Why there is no resource in the bytes of a file.
pub(crate) fn why_none(bytes: &[u8]) -> Mistake {
    let none = "holds no resource of Kubernetes: expected one with `apiVersion` and `kind`";
    match text(bytes).map(|text| yaml::read(text, Schema::Kubernetes).map_err(|error| unreadable(text, error))) {
        Err(mistake) | Ok(Err(mistake)) => mistake,
        Ok(Ok(_)) => Mistake::new("", none),
    }
}

/// What a list holds, also in lists of lists; anything else is one.
fn listed(document: &Node) -> Vec<Node> {
    let is_list = document.get("kind").and_then(Node::as_str).is_some_and(|kind| kind.ends_with("List"));
    match document.get("items").map(|items| &items.content) {
        Some(Content::List(items)) if is_list => items.iter().flat_map(listed).collect(),
        _ if is_list => Vec::new(),
        _ => vec![document.clone()],
    }
}

impl Resource {
    /// How messages call it, as in `WasmPlugin higress-system/limits`.
    pub(crate) fn name(&self) -> String {
        let metadata =
            |field: &str| self.value.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_str);
        let kind = self.value.get("kind").and_then(Value::as_str).unwrap_or("something without kind");
        let name = metadata("name").unwrap_or("(no name)");
        let name = metadata("namespace").map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"));
        crate::settings::one_line(&format!("{kind} {name}"))
    }

    /// The specification of a plugin; none if the resource is something else.
    pub(crate) fn plugin(&self) -> Option<&Value> {
        let is_plugin = self.value.get("kind").and_then(Value::as_str) == Some("WasmPlugin");
        self.value.get("spec").filter(|spec| is_plugin && spec.is_object())
    }

    /// Whether this is a plugin named so, without the object that specifies it.
    pub(crate) fn is_hollow_plugin_named(&self, name: &str) -> bool {
        let is_plugin = self.value.get("kind").and_then(Value::as_str) == Some("WasmPlugin");
        let named = self.value.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Value::as_str);
        is_plugin && self.plugin().is_none() && named.is_some_and(|named| named.contains(name))
    }

    /// Whether the plugin's image, or the plugin itself, is named so.
    pub(crate) fn is_plugin_named(&self, name: &str) -> bool {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(spec) = self.plugin() else { return false };
        let metadata = self.value.get("metadata").and_then(|metadata| metadata.get("name"));
        [text(spec.get("url")), text(spec.get("pluginName")), text(metadata)].iter().any(|text| text.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Option<Vec<String>> {
        read(text.as_bytes()).unwrap().map(|resources| resources.list.iter().map(Resource::name).collect())
    }

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- {kind: WasmPlugin, apiVersion: a/v1, metadata: {name: one, \
                    namespace: n}, spec: {}}\n\
                    - {kind: ServiceList, apiVersion: v1, items: [{kind: Service, metadata: {name: two}}]}\n---\n# \
                    nothing\n---\n\
                    apiVersion: v1\nkind: ConfigMap\nmetadata: {name: three}\n";
        assert_eq!(names(text).unwrap(), ["WasmPlugin n/one", "Service two", "ConfigMap three"]);
        assert_eq!(names("{\"apiVersion\": \"v1\", \"kind\": \"Service\"}").unwrap(), ["Service (no name)"]);
        assert_eq!(names("{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": []}").unwrap(), [""; 0]);
    }

    #[test]
    fn a_file_without_resources_says_why() {
        for (bytes, why) in [
            (&b"upstream: http://a\n"[..], "holds no resource of Kubernetes"),
            (b"", "holds no resource of Kubernetes"),
            (b"a: 1\nb: [1, 2\nc: }", "is not YAML: "),
            (b"\x89PNG\xff", "is not UTF-8: this byte"),
        ] {
            let told = why_none(bytes);
            let (is_placed, told) = (told.place.is_some(), told.message);
            assert!(told.starts_with(why), "{told}");
            assert!(!why.ends_with("YAML: ") || is_placed, "{told}");
        }
    }

    #[test]
    fn a_gateways_file_is_no_resource() {
        assert_eq!(names("upstream: http://a\n"), None);
        assert_eq!(names("upstream: http://a # apiVersion, kind\n"), None);
        assert!(read(b"apiVersion: v1\nkind: [").is_err());
        assert!(read(b"apiVersion kind \xff").unwrap().is_none());
    }
}
