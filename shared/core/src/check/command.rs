//! The AWS CLI commands that alerts print.
//!
//! People paste these commands into a shell, and text from AWS may contain any character: the path of an allowed
//! principal's ARN can be `/';curl …;:'/`. So one function checks every argument, and a command with an argument that a
//! shell would not take literally is not printed. Each printed line can be pasted as it is, without placeholders to
//! fill in. Where the user has a choice, the command lists the options.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>

use super::Region;

/// A command of the AWS CLI, versions 1 and 2, or of this project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    text: String,
    is_printable: bool,
}

impl Command {
    /// `aws OPERATION --region REGION`.
    pub(crate) fn new(operation: &'static str, region: &Region) -> Self {
        Self { text: format!("aws {operation}"), is_printable: true }.option("region", region.name())
    }

    /// `privatelink-guard OPERATION --region REGION`.
    pub(crate) fn own(operation: &'static str, region: &Region) -> Self {
        Self { text: format!("privatelink-guard {operation}"), is_printable: true }.option("region", region.name())
    }

    /// Adds `--NAME VALUE`.
    pub(crate) fn option(self, name: &'static str, value: impl ToString) -> Self {
        self.options(name, [value])
    }

    /// Adds `--NAME VALUE VALUE …`; adds nothing without values.
    pub(crate) fn options(mut self, name: &'static str, values: impl IntoIterator<Item = impl ToString>) -> Self {
        let mut values = values.into_iter().peekable();
        if values.peek().is_some() {
            self = self.literal(&format!("--{name}"));
        }
        for value in values {
            match argument(&value.to_string()) {
                Some(argument) => self = self.literal(&argument),
                None => self.is_printable = false,
            }
        }
        self
    }

    /// Adds `--NAME` with the output of another command as its value.
    pub(crate) fn option_of(self, name: &'static str, printed_by: &Self) -> Self {
        let is_printable = self.is_printable && printed_by.is_printable;
        Self { is_printable, ..self.literal(&format!("--{name} $({})", printed_by.text)) }
    }

    /// Adds text whose only content from AWS is numbers, networks, parsed ids, and arguments of a printed command.
    pub(crate) fn literal(mut self, text: &str) -> Self {
        self.text.push(' ');
        self.text.push_str(text);
        self
    }

    /// Runs `next` if this command succeeds.
    pub(crate) fn then(self, next: Self) -> Self {
        self.joined(" && ", next)
    }

    /// Adds `next` on its own line: an alternative, or a step that a person must decide on. The action says which.
    pub(crate) fn next_line(self, next: Self) -> Self {
        self.joined("\n", next)
    }

    fn joined(self, between: &str, next: Self) -> Self {
        Self { text: [self.text, next.text].join(between), is_printable: self.is_printable && next.is_printable }
    }

    /// The text, unless a shell would not take an argument literally.
    pub(crate) fn into_text(self) -> Option<String> {
        self.is_printable.then_some(self.text)
    }
}

/// The argument in the form that a shell takes literally. `None` if it contains other characters than those of ids,
/// ARNs, addresses and settings, or if the AWS CLI would take it for an option.
pub(crate) fn argument(text: &str) -> Option<String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_/:*-".contains(&b);
    if text.is_empty() || text.starts_with('-') || !text.bytes().all(is_plain) {
        return None;
    }
    // A shell replaces `*` with file names, and zsh replaces a leading `=` with a command's path.
    let needs_quotes = text.contains('*') || text.starts_with('=');
    Some(if needs_quotes { format!("'{text}'") } else { text.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::region;

    #[test]
    fn an_argument_passes_only_if_a_shell_takes_it_literally() {
        let plain = ["vpce-1", "arn:aws:iam::123456789012:role/a/b@c+d=e,f.g_h", "Name=service-id,Values=a,b"];
        for text in plain {
            assert_eq!(argument(text).as_deref(), Some(text));
        }
        assert_eq!(argument("*").as_deref(), Some("'*'"));
        assert_eq!(argument("=ls").as_deref(), Some("'=ls'"));
        for hostile in
            ["", "-x", "a b", "a\nb", "';curl evil.example;:'", "$(id)", "`id`", "a;b", "a|b", "~", "ä", "\u{202e}"]
        {
            assert_eq!(argument(hostile), None, "{hostile:?}");
        }
    }

    #[test]
    fn one_hostile_argument_makes_a_command_unprintable() {
        let show = || Command::new("ec2 describe-subnets", &region());
        let hostile = show().options("subnet-ids", ["subnet-1", "subnet-2;reboot"]);
        assert_eq!(hostile.clone().into_text(), None);
        assert_eq!(show().then(hostile.clone()).into_text(), None);
        assert_eq!(hostile.then(show()).into_text(), None);
        let harmless = show().options("subnet-ids", ["subnet-1", "subnet-2"]);
        assert_eq!(
            harmless.into_text().as_deref(),
            Some("aws ec2 describe-subnets --region eu-central-1 --subnet-ids subnet-1 subnet-2")
        );
    }

    #[test]
    fn a_remedy_prints_all_its_commands_or_none() {
        let show = |subnet: &str| Command::new("ec2 describe-subnets", &region()).option("subnet-ids", subnet);
        let both = show("subnet-1").then(show("subnet-2")).next_line(show("subnet-3")).into_text().unwrap();
        let lines: Vec<usize> = both.lines().map(|line| line.matches("aws ").count()).collect();
        assert_eq!(lines, [2, 1]);
        assert_eq!(show("subnet-1").next_line(show("subnet-2;reboot")).into_text(), None);
    }

    proptest! {
        /// Every shell takes each character of a printed argument literally, or our quotes enclose it.
        #[test]
        fn a_printed_argument_is_literal(text in any::<String>()) {
            if let Some(printed) = argument(&text) {
                prop_assert_eq!(printed.trim_matches('\''), &text);
                let quoted = printed.starts_with('\'');
                let literal = |c: char| c.is_ascii_alphanumeric() || "+=,.@_/:-".contains(c) || (quoted && c == '*');
                prop_assert!(text.chars().all(literal));
            }
        }
    }
}
