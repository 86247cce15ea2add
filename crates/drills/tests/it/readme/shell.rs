//! The commands in the README's blocks marked `console`, as a shell would read them: no more of a shell than they need.

/// The commands, each as its words, in order.
pub(super) fn commands(readme: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    let mut in_console = false;
    for line in readme.lines() {
        if line.starts_with("```") {
            in_console = line == "```console";
        } else if in_console && let Some(command) = line.strip_prefix("$ ") {
            commands.push(words(command));
        }
    }
    commands
}

/// Splits at blanks outside quotes; stops at a comment.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn commands_are_read_as_a_shell_would() {
    let readme = "```console\n$ curl -d '{ \"name\": \"hello\" }' \"http://x/?a=b\"   # a comment\noutput\n```\n\n```\n$ not this\n```\n";
    assert_eq!(commands(readme), [["curl", "-d", "{ \"name\": \"hello\" }", "http://x/?a=b"]]);
    assert_eq!(words("a '' b#c"), ["a", "", "b#c"]);
}
