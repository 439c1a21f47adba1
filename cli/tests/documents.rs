//! The schemas and the command's page in docs/ are those of the code.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::{Args, Command, CommandFactory};
use guard_core::message::AlertMessage;
use privatelink_guard::args::{AwsArgs, Cli, Subject};
use privatelink_guard::output::json::CheckOutput;
use privatelink_guard::status::known::GuardStatus;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

/// With `UPDATE_EXAMPLES` set, writes it first (`make docs`).
fn assert_is_documented(file: &str, text: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs").join(file);
    let before = std::fs::read_to_string(&path).unwrap();
    let expected = text(&before);
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        std::fs::write(path, expected).unwrap();
    } else {
        assert_eq!(before, expected, "run `make docs`");
    }
}

fn schema<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

#[test]
fn the_documented_schemas_are_those_of_the_types() {
    let schemas = [
        ("alert", schema::<AlertMessage<'_>>()),
        ("check", schema::<CheckOutput<'_>>()),
        ("status", schema::<GuardStatus>()),
    ];
    for (name, schema) in schemas {
        assert_is_documented(&format!("{name}.schema.json"), |_| format!("{:#}\n", schema.as_value()));
    }
}

/// The options that several commands have. The page has each set once, under this name.
fn shared_options() -> [(&'static str, Command); 2] {
    let set = |command: Command| command.disable_help_flag(true).help_template("{all-args}");
    [
        ("all commands", set(AwsArgs::augment_args(Command::new("aws")))),
        ("check, request and trace", set(Subject::augment_args(Command::new("subject")))),
    ]
}

/// The commands that do something, such as `silence add`, each without the options that others have as well.
fn commands(of: &Command, path: &str) -> Vec<(String, Command)> {
    let named = of.get_subcommands().map(|command| (format!("{path}{}", command.get_name()), command));
    let leaves = named.flat_map(|(name, command)| match command.has_subcommands() {
        true => commands(command, &format!("{name} ")),
        false => vec![(name, without_shared_options(command.clone()))],
    });
    leaves.collect()
}

fn without_shared_options(command: Command) -> Command {
    let ids = |command: &Command| -> BTreeSet<String> {
        command.get_arguments().map(|argument| argument.get_id().to_string()).collect()
    };
    let own = ids(&command);
    // `status --stack` is not the `--stack` of a set of which `status` has nothing else.
    let sets = shared_options().map(|(_, set)| ids(&set)).into_iter().filter(|set| set.is_subset(&own));
    let elsewhere: BTreeSet<String> = sets.flatten().chain(["help", "version"].map(str::to_owned)).collect();
    command
        .mut_args(|argument| {
            let is_elsewhere = elsewhere.contains(argument.get_id().as_str());
            argument.hide(is_elsewhere)
        })
        .help_template("{about-with-newline}\n{usage-heading} {usage}\n\n{all-args}{after-help}")
}

/// What `-h` prints in a terminal of 100 columns.
fn help(command: &Command) -> String {
    let text = command.clone().term_width(100).render_help().to_string();
    // A command without options leaves their place empty.
    let text = text.replace("\n\n\n\n", "\n\n");
    let lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
    lines.join("\n")
}

#[test]
fn the_page_of_the_command_has_the_help_of_each_subcommand() {
    let mut root = Cli::command();
    root.build();
    let mut helps: BTreeMap<String, String> =
        commands(&root, "").into_iter().map(|(name, command)| (name, help(&command))).collect();
    helps.extend(shared_options().map(|(name, set)| (name.to_owned(), help(&set))));
    assert_is_documented("command.md", |page| {
        let mut blocks = page.split("<!-- help: ");
        let mut text = blocks.next().unwrap().to_owned();
        let mut missing = helps.clone();
        for block in blocks {
            let (name, rest) = block.split_once(" -->\n").unwrap();
            let (_, after) = rest.split_once("<!-- /help -->").unwrap();
            let help = missing.remove(name).unwrap_or_else(|| panic!("{name} is no command, or stands here twice"));
            text += &["<!-- help: ", name, " -->\n```text\n", &help, "\n```\n<!-- /help -->", after].concat();
        }
        assert!(missing.is_empty(), "docs/command.md has no place for {:?}", missing.keys());
        text
    });
}
