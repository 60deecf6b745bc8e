//! The page's files, which are part of the binary: nothing is fetched from elsewhere, and nothing is built.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, type and content of what the page loads.
const FILES: [(&str, &str, &str); 13] = [
    ("style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("main.js", SCRIPT, include_str!("page/main.js")),
    ("base.js", SCRIPT, include_str!("page/base.js")),
    ("queries.js", SCRIPT, include_str!("page/queries.js")),
    ("query.js", SCRIPT, include_str!("page/query.js")),
    ("graph.js", SCRIPT, include_str!("page/graph.js")),
    ("layout.js", SCRIPT, include_str!("page/layout.js")),
    ("timeline.js", SCRIPT, include_str!("page/timeline.js")),
    ("executors.js", SCRIPT, include_str!("page/executors.js")),
    ("queues.js", SCRIPT, include_str!("page/queues.js")),
    ("sql.js", SCRIPT, include_str!("page/sql.js")),
    ("chart.js", SCRIPT, include_str!("page/chart.js")),
];

/// The page itself, at the root.
pub async fn index() -> Response {
    told(HTML, include_str!("page/index.html"))
}

/// A file that the page loads.
pub async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, _, _)| *known == name) {
        Some((_, kind, content)) => told(kind, content),
        None => (StatusCode::NOT_FOUND, "no such file\n").into_response(),
    }
}

fn told(kind: &'static str, content: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_loads_is_there() {
        let known = |name: &str| FILES.iter().any(|(file, _, _)| *file == name);
        let html = include_str!("page/index.html");
        for part in html.split("/assets/").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            assert!(known(name), "index.html loads {name}");
        }
        for (file, _, content) in FILES {
            for part in content.split("from \"./").skip(1) {
                let name = part.split('"').next().unwrap_or_default();
                assert!(known(name), "{file} imports {name}");
            }
        }
    }

    #[test]
    fn nothing_is_inline_or_from_elsewhere() {
        let html = include_str!("page/index.html");
        for banned in ["<style", "style=", " onclick", "<script>", "http://", "https://"] {
            assert!(!html.contains(banned), "index.html has {banned}");
        }
        for (file, _, content) in FILES.iter().filter(|(file, _, _)| file.ends_with(".js")) {
            for banned in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "import("] {
                assert!(!content.contains(banned), "{file} has {banned}");
            }
        }
    }
}
