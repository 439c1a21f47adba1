//! What the guard sent, as a page: the emails as plain text, the chat messages as Slack shows them.

use std::fmt::Write;

use serde_json::Value;

use crate::mail::Mail;

const STYLE: &str = "
body { font: 15px/1.45 -apple-system, 'Segoe UI', Lato, Arial, sans-serif; color: #1d1c1d; background: #fff;
  max-width: 78ch; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.2em; margin-top: 2.5em }
article { border: 1px solid #ddd; border-radius: 8px; padding: .8em 1em; margin: 1em 0; overflow-wrap: anywhere }
pre { font: 13px/1.4 Menlo, Consolas, monospace; white-space: pre-wrap; margin: .5em 0 }
.slack { border-left: 4px solid #611f69 } .slack pre, code { background: #f4f4f4; border: 1px solid #ddd;
  border-radius: 4px; padding: .1em .3em; font-size: 13px } .slack pre { padding: .5em } .thread { color: #616061 }";

/// The page.
#[must_use]
pub fn page(delivered: &[Mail]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>What the guard sent</title>\n<style>{STYLE}</style>\n\
         <h1>What the guard sent</h1>\n"
    );
    let of = |protocol: &'static str| delivered.iter().filter(move |mail| mail.protocol == protocol);
    page.push_str("<h2>By email</h2>\n");
    for mail in of("email") {
        let (subject, body) = (escape(&mail.subject), escape(mail.body.trim_end()));
        let _ = writeln!(page, "<article><strong>{subject}</strong><pre>{body}</pre></article>");
    }
    page.push_str("<h2>In Slack</h2>\n");
    for mail in of("https") {
        let _ = writeln!(page, "<article class=\"slack\">{}</article>", slack(&mail.body));
    }
    page.push_str("</html>\n");
    page
}

fn slack(body: &str) -> String {
    let Ok(message) = serde_json::from_str::<Value>(body) else { return escape(body) };
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let mut shown =
        format!("<strong>{}</strong><br>{}", markup(text("/content/title")), markup(text("/content/description")));
    let steps = message.pointer("/content/nextSteps").and_then(Value::as_array).cloned().unwrap_or_default();
    if !steps.is_empty() {
        let steps = steps.iter().filter_map(Value::as_str).map(|step| format!("<li>{}</li>", markup(step)));
        let _ = write!(shown, "<p><strong>Next steps</strong></p><ul>{}</ul>", steps.collect::<Vec<_>>().concat());
    }
    let _ = write!(shown, "<p class=\"thread\">Thread {}</p>", escape(text("/metadata/threadId")));
    shown
}

/// Slack's markup as HTML: code, bold and links. A zero-width space marks a character that is not markup.
fn markup(text: &str) -> String {
    let mut html = String::new();
    for (index, block) in text.split("```").enumerate() {
        if index % 2 == 1 {
            let _ = write!(html, "<pre>{}</pre>", escape(block.trim_matches('\n')));
            continue;
        }
        for (index, part) in block.split('`').enumerate() {
            if index % 2 == 1 {
                let _ = write!(html, "<code>{}</code>", escape(part));
            } else {
                html.push_str(&prose(part));
            }
        }
    }
    html.replace('\u{200b}', "")
}

fn prose(text: &str) -> String {
    let mut html = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("<http") {
        let Some((link, after)) = link.split_once('>') else { break };
        let (address, name) = link.split_once('|').unwrap_or((link, link));
        let _ = write!(html, "{}<a href=\"http{}\">{}</a>", bold(before), escape(address), escape(name));
        rest = after;
    }
    html.push_str(&bold(rest));
    html
}

fn bold(text: &str) -> String {
    // An asterisk before a zero-width space is shown as it is.
    let escaped = escape(text).replace("*\u{200b}", "&#42;").replace('\n', "<br>\n");
    let parts: Vec<&str> = escaped.split('*').collect();
    let styled = parts.iter().enumerate().map(|(index, part)| match index % 2 {
        1 if index + 1 < parts.len() => format!("<strong>{part}</strong>"),
        1 => format!("*{part}"),
        _ => (*part).to_owned(),
    });
    styled.collect::<Vec<_>>().concat()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
