//! Alerts as a page: the look of each in email, in Slack, in Teams and on a phone.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::mail::Mail;

const STYLE: &str = "
:root { color-scheme: light dark }
body { font: 15px/1.45 -apple-system, 'Segoe UI', Lato, Arial, sans-serif; max-width: 1600px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.1em; margin-top: 3em } h3 { font-size: .85em; margin: 0 0 .5em; opacity: .85 }
a { color: inherit } a:focus-visible { outline: 3px solid }
.bodies { display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start }
article { border: 1px solid #999; border-radius: 8px; padding: .8em 1em; overflow-wrap: anywhere; box-sizing: border-box; max-width: 100% }
.email { width: 390px } .slack { width: 520px; border-left: 4px solid #611f69 }
.teams { width: 320px; border-left: 4px solid #5059c9 } .sms { width: 280px; border-radius: 18px }
pre { font: 12.5px/1.4 Menlo, Consolas, monospace; white-space: pre-wrap; margin: .5em 0 }
.chat pre, code { border: 1px solid #999; border-radius: 4px; padding: .1em .3em; font-size: 12.5px }
.chat pre { padding: .5em }
@media print { :root { color-scheme: light } body { background: #fff } }";

/// A message with a body for each reader.
#[derive(Debug, Clone)]
pub struct InboxMessage {
    subject: String,
    email: String,
    chat: String,
    sms: String,
}

impl InboxMessage {
    /// The message with this subject and these bodies, in their published form.
    pub fn new(subject: &str, bodies: &str) -> Result<Self> {
        let bodies: Value = serde_json::from_str(bodies)?;
        let body = |protocol: &str| {
            let text = bodies[protocol].as_str().map(ToOwned::to_owned);
            text.with_context(|| format!("no body for {protocol}"))
        };
        Ok(Self { subject: subject.to_owned(), email: body("default")?, chat: body("https")?, sms: body("sms")? })
    }
}

/// The published alerts among the delivered messages. EC2's notifications have one body and are no alerts.
pub fn published(delivered: &[Mail]) -> Vec<InboxMessage> {
    let published = delivered.iter().filter(|mail| mail.protocol == "topic");
    published.filter_map(|mail| InboxMessage::new(&mail.subject, &mail.body).ok()).collect()
}

/// The page.
pub fn page(title: &str, messages: &[InboxMessage]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n<main>\n<h1>{title}</h1>\n"
    );
    for InboxMessage { subject, email, chat, sms } in messages {
        let length = sms.chars().count();
        let _ = writeln!(
            page,
            "<h2>{subject}</h2>\n<div class=\"bodies\">\n\
             <article class=\"email\"><h3>Email, on a phone</h3><strong>{subject}</strong><pre>{}</pre></article>\n\
             <article class=\"slack chat\"><h3>Slack</h3>{}</article>\n\
             <article class=\"teams chat\"><h3>Microsoft Teams, on a phone</h3>{}</article>\n\
             <article class=\"sms\"><h3>Text message, {length} characters</h3>{}</article>\n</div>",
            escape(email.trim_end()),
            shown(chat, slack),
            shown(chat, teams),
            escape(sms),
            subject = escape(subject),
        );
    }
    page.push_str("</main>\n</html>\n");
    page
}

/// A chat message, whose text `markup` turns into HTML.
fn shown(body: &str, markup: fn(&str) -> String) -> String {
    let Ok(message) = serde_json::from_str::<Value>(body) else { return escape(body) };
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let [title, description] = ["/content/title", "/content/description"].map(|pointer| markup(text(pointer)));
    // A zero-width space marks a character that is no markup.
    format!("<strong>{title}</strong><br>{description}<h3>Thread {}</h3>", escape(text("/metadata/threadId")))
        .replace('\u{200b}', "")
}

/// Slack's markup as HTML: code, bold and links.
fn slack(text: &str) -> String {
    let mut html = String::new();
    for (index, block) in text.split("```").enumerate() {
        if index % 2 == 1 {
            let _ = write!(html, "<pre>{}</pre>", escape(block.trim_matches('\n')));
        } else {
            html.push_str(&inline(block.strip_prefix('\n').unwrap_or(block)));
        }
    }
    html
}

/// As [`slack`], without blocks, which cards in Teams do not have: their fences stay.
/// <https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/cards-format>
fn teams(text: &str) -> String {
    text.split("```").map(inline).collect::<Vec<_>>().join("```")
}

/// Text outside of blocks, with inline code.
fn inline(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(index, part)| match index % 2 {
        1 => format!("<code>{}</code>", escape(part)),
        _ => prose(part),
    });
    parts.collect()
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
    // An asterisk before a zero-width space stays as it is.
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

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "*To do:* it, <https://a.example|Console>\n```\naws a '*b*' > c\n```\nCheck `x`";

    #[test]
    fn a_command_is_a_block_in_slack() {
        let expected = "<strong>To do:</strong> it, <a href=\"https://a.example\">Console</a><br>\n\
                        <pre>aws a '*b*' &gt; c</pre>Check <code>x</code>";
        assert_eq!(slack(TEXT), expected);
    }

    #[test]
    fn a_command_has_visible_fences_in_teams() {
        // Outside of a block, an asterisk is markup.
        let expected = "Console</a><br>\n```<br>\naws a '<strong>b</strong>' &gt; c<br>\n```<br>\nCheck <code>x</code>";
        assert!(teams(TEXT).ends_with(expected), "{}", teams(TEXT));
    }
}
