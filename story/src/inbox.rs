//! Alerts as a page: the look of each in email, in Slack, in Teams and on a phone. And one alert as a picture.

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

/// The look of a picture: a card on nothing, with Slack's and a phone's usual colours.
const PICTURE_STYLE: &str = "
:root { color-scheme: light dark; --card: #fff; --text: #1d1c1d; --soft: #616061; --edge: #ddd; --field: #f6f6f6;
  --link: #1264a3 }
@media (prefers-color-scheme: dark) { :root { --card: #1a1d21; --text: #e8e8e8; --soft: #ababad; --edge: #44474b;
  --field: #232529; --link: #66b2e8 } }
body { margin: 0; padding: 1px; font: 15px/1.47 'DejaVu Sans', sans-serif; color: var(--text); background: none }
article { background: var(--card); border: 1px solid var(--edge); border-radius: 12px; padding: 16px 20px;
  overflow-wrap: anywhere }
h1 { font-size: 1em; margin: 0 } p, ul { margin: .5em 0 0 } ul { padding-left: 1.2em } a { color: var(--link) }
pre, code { font: 12.5px/1.5 'DejaVu Sans Mono', monospace; background: var(--field); border: 1px solid var(--edge);
  border-radius: 4px }
code { padding: .1em .3em; overflow-wrap: normal } pre { padding: .6em; margin: .5em 0; white-space: pre-wrap }
.chat { display: grid; grid-template-columns: 36px 1fr; gap: 12px }
.icon { width: 36px; height: 36px; border-radius: 8px; background: #5b3fd6; color: #fff; font-weight: 700;
  display: grid; place-items: center }
.app { font-size: 10px; color: var(--soft); background: var(--field); border: 1px solid var(--edge); border-radius: 3px;
  padding: 0 4px; vertical-align: 1px }
.symbol { display: inline-block; width: 14px; height: 14px; border-radius: 7px; vertical-align: -1px }
.email { border-radius: 28px; padding: 20px }
.email h1 { font-size: 1.2em; line-height: 1.35; margin-bottom: .6em }
.sender { color: var(--soft); border-bottom: 1px solid var(--edge); padding-bottom: .8em; margin-bottom: .8em }
.text { white-space: pre-wrap }";

/// The symbols of the severities, which the browser that takes the pictures has no font for, and their colours.
const SYMBOLS: [(char, &str); 3] = [('🔴', "#dd2e44"), ('🟠', "#f4900c"), ('🔵', "#55acee")];

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
            shown(chat, slack) + &thread(chat),
            shown(chat, teams) + &thread(chat),
            escape(sms),
            subject = escape(subject),
        );
    }
    page.push_str("</main>\n</html>\n");
    page
}

/// The message as pages that only have to be photographed, each with its name: in Slack, and as an email on a phone.
pub fn pictures(message: &InboxMessage) -> [(&'static str, String); 2] {
    let InboxMessage { subject, email, chat, .. } = message;
    let page = |body: String| {
        format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n<style>{PICTURE_STYLE}</style>\n{body}\n</html>\n"
        )
    };
    // The app that brings the topic's messages to Slack, by the name with which people address it there.
    // <https://docs.aws.amazon.com/chatbot/latest/adminguide/bedrock-converse.html>
    let chat = format!(
        "<article class=\"chat\"><div class=\"icon\">Q</div>\n\
         <div><strong>Amazon Q</strong> <span class=\"app\">APP</span><br>\n{}</div></article>",
        drawn_symbols(shown(chat, slack))
    );
    // SNS sends with the display name that template.yaml gives the topic. <https://aws.amazon.com/sns/faqs/>
    let email = format!(
        "<article class=\"email\"><h1>{}</h1>\n<div class=\"sender\"><strong>privatelink-guard</strong></div>\n\
         <div class=\"text\">{}</div></article>",
        escape(subject),
        escape(email.trim_end())
    );
    [("alert-in-chat", page(chat)), ("alert-by-email", page(email))]
}

fn drawn_symbols(html: String) -> String {
    let draw = |html: String, (symbol, color)| {
        html.replace::<char>(symbol, &format!("<span class=\"symbol\" style=\"background: {color}\"></span>"))
    };
    SYMBOLS.into_iter().fold(html, draw)
}

/// A chat message, whose text `markup` turns into HTML.
fn shown(body: &str, markup: fn(&str) -> String) -> String {
    let Ok(message) = serde_json::from_str::<Value>(body) else { return escape(body) };
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let [title, description] = ["/content/title", "/content/description"].map(|pointer| markup(text(pointer)));
    // A zero-width space marks a character that is no markup.
    format!("<strong>{title}</strong><br>{description}").replace('\u{200b}', "")
}

/// What Slack does not show: the messages of a thread have the same id.
fn thread(body: &str) -> String {
    let message: Value = serde_json::from_str(body).unwrap_or_default();
    format!("<h3>Thread {}</h3>", escape(message["metadata"]["threadId"].as_str().unwrap_or_default()))
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

    #[test]
    fn a_picture_of_slack_draws_the_symbols_of_severities() {
        let chat = serde_json::json!({"content": {"title": "🔴 CRITICAL: postgres"}}).to_string();
        let bodies = serde_json::json!({"default": "🔴", "https": chat, "sms": ""}).to_string();
        let [(_, in_chat), _] = pictures(&InboxMessage::new("[CRITICAL] postgres", &bodies).unwrap());
        assert!(in_chat.contains("background: #dd2e44\"></span> CRITICAL: postgres"), "{in_chat}");
    }
}
