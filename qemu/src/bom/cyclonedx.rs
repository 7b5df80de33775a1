//! A list as CycloneDX 1.5 in JSON (ECMA-424). The same crates give the same bytes: there is no time and no serial
//! number in it.

use serde_json::{Value, json};

use super::graph::{Component, Graph};

/// The whole document.
pub(super) fn document(graph: &Graph) -> Value {
    let component =
        |kind: &str, id: &str| graph.components.get(id).map(|it| component(kind, &reference(graph, id), it));
    let others = graph.components.keys().filter(|id| **id != graph.root);
    let dependencies = graph.components.iter().map(|(id, it)| {
        let on: Vec<String> = it.dependencies.iter().map(|id| reference(graph, id)).collect();
        json!({ "ref": reference(graph, id), "dependsOn": on })
    });
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": component("application", &graph.root),
            "tools": { "components": [{
                "type": "application", "name": "cargo-unikernel", "version": env!("CARGO_PKG_VERSION"),
            }] },
        },
        "components": others.filter_map(|id| component("library", id)).collect::<Vec<_>>(),
        "dependencies": dependencies.collect::<Vec<_>>(),
    })
}

/// What a crate goes by in the document: cargo's id, without folders of this host.
fn reference(graph: &Graph, id: &str) -> String {
    let folder = graph.components.get(id).filter(|_| id.starts_with("path+"));
    folder.map_or_else(|| id.to_owned(), |it| format!("path+#{}@{}", it.name, it.version))
}

fn component(kind: &str, id: &str, it: &Component) -> Value {
    let mut value = json!({
        "type": kind,
        "bom-ref": id,
        "name": it.name,
        "version": it.version,
        "purl": purl(it),
        // What runs while others are compiled is no part of the image.
        "scope": if it.is_in_image { "required" } else { "excluded" },
    });
    if let Some(description) = &it.description {
        value["description"] = json!(description.trim());
    }
    match &it.license {
        Some(license) if license.starts_with("LicenseRef-") => {
            value["licenses"] = json!([{ "license": { "name": license } }]);
        }
        Some(license) => value["licenses"] = json!([{ "expression": license }]),
        None => {}
    }
    if let Some(sha256) = &it.sha256 {
        value["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
    }
    if let Some(repository) = it.repository.as_ref().filter(|url| !url.contains(char::is_whitespace)) {
        value["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    value
}

/// A package URL (ECMA-427): crates of a registry by their names, those of a repository with it; what is no crate is of no kind.
fn purl(it: &Component) -> String {
    if !it.is_crate {
        return format!("pkg:generic/{}@{}", encoded(&it.name), encoded(&it.version));
    }
    let plain = format!("pkg:cargo/{}@{}", encoded(&it.name), encoded(&it.version));
    match it.source.as_deref().and_then(|source| source.strip_prefix("git+")) {
        Some(repository) => format!("{plain}?vcs_url={}", encoded(&format!("git+{repository}"))),
        None => plain,
    }
}

/// With everything but what means itself as `%XX`.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn component(name: &str, source: Option<&str>) -> Component {
        Component {
            name: name.to_owned(),
            version: "1.0.0+x".to_owned(),
            license: Some("MIT".to_owned()),
            description: None,
            repository: None,
            source: source.map(str::to_owned),
            sha256: None,
            is_in_image: name != "macro",
            is_crate: name != "musl",
            folder: None,
            dependencies: BTreeSet::new(),
        }
    }

    #[test]
    fn document_names_all_and_the_program_first() {
        let mut components = BTreeMap::new();
        for name in ["lib", "macro"] {
            components.insert(name.to_owned(), component(name, None));
        }
        let app = "path+file:///home/me/app#1.0.0+x";
        components.insert(app.to_owned(), component("app", None));
        components.get_mut(app).unwrap().dependencies.insert("lib".to_owned());
        let document = document(&Graph { root: app.into(), components });
        assert_eq!(document["metadata"]["component"]["bom-ref"], "path+#app@1.0.0+x");
        let scope = |number: usize| document["components"][number]["scope"].as_str().unwrap();
        assert_eq!((scope(0), scope(1)), ("required", "excluded"));
        assert_eq!(document["dependencies"][2]["dependsOn"], json!(["lib"]));
    }

    #[test]
    fn package_urls_are_encoded() {
        assert_eq!(purl(&component("a_b", Some("registry+https://x"))), "pkg:cargo/a_b@1.0.0%2Bx");
        assert_eq!(purl(&component("musl", None)), "pkg:generic/musl@1.0.0%2Bx");
        let git = component("a", Some("git+https://x/y?rev=1#2"));
        assert_eq!(purl(&git), "pkg:cargo/a@1.0.0%2Bx?vcs_url=git%2Bhttps%3A%2F%2Fx%2Fy%3Frev%3D1%232");
    }
}
