use super::*;
use alloc::vec;
use proptest::prelude::*;

fn compile(expression: &str) -> Pattern {
    Pattern::new(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

#[track_caller]
fn check(expression: &str, matching: &[&[u8]], other: &[&[u8]]) {
    let pattern = compile(expression);
    for value in matching {
        assert!(pattern.is_match(value), "{expression} must match {}", value.escape_ascii());
    }
    for value in other {
        assert!(!pattern.is_match(value), "{expression} must not match {}", value.escape_ascii());
    }
}

#[test]
fn searches_are_unanchored() {
    check("a.c", &[b"abc", b"xxabcxx"], &[b"a\nc", b"ac", b""]);
    check("^(?:a|b)$", &[b"a", b"b"], &[b"ab", b"xa", b"a\n"]);
    check("a|", &[b"", b"zzz"], &[]);
    check("()", &[b"", b"x"], &[]);
    check("(?P<year>[0-9]{4})-(?<month>[0-9]{2})", &[b"on 2024-05"], &[b"on 2024-5"]);
}

#[test]
fn simple_forms_take_the_fast_path() {
    for expression in ["", "^", ".*", "^.*"] {
        assert!(matches!(compile(expression), Pattern::Any), "{expression}");
    }
    for (expression, expected) in [
        ("^abc", "abc"),
        ("^abc.*", "abc"),
        (r"^10\.0\.", "10.0."),
        (r"^a\*.*", "a*"),
        ("^a]}", "a]}"),
        ("^\u{e9}", "\u{e9}"),
    ] {
        let pattern = compile(expression);
        assert!(
            matches!(&pattern, Pattern::Prefix(literal) if literal == expected.as_bytes()),
            "{expression}: {pattern:?}"
        );
    }
    let exact = compile("^abc$");
    assert!(matches!(&exact, Pattern::Exact(literal) if literal == b"abc"));
    check("^abc$", &[b"abc"], &[b"abcd", b"abc\n", b""]);
    check("^abc.*", &[b"abc", b"abc\nd"], &[b"xabc", b"ab"]);
    // A newline makes the difference here.
    assert!(matches!(compile("^abc.*$"), Pattern::Regex(_)));
    check("^abc.*$", &[b"abcd"], &[b"abc\nd"]);
    for expression in
        ["^ab*", "^ab|c", "^ab?", "^a.b", "^a.*b", r"^a\d", "^a$b", "^(a)", "^a[b]", "^a{2}", "abc", "^\u{fffd}"]
    {
        assert!(matches!(compile(expression), Pattern::Regex(_)), "{expression}");
    }
}

#[test]
fn perl_classes_are_ascii() {
    check(r"^\d$", &[b"7"], &["\u{663}".as_bytes()]);
    check(r"^\D$", &["\u{663}".as_bytes(), b"a"], &[b"7"]);
    check(r"^\w+$", &[b"aZ_9"], &["\u{e9}".as_bytes()]);
    check(r"^\W$", &["\u{e9}".as_bytes(), b"-"], &[b"_"]);
    check(r"^\s$", &[b" ", b"\t", b"\n", b"\x0c", b"\r"], &[b"\x0b", b"\xc2\xa0", b"\xe2\x80\x83"]);
    check(r"^\S$", &[b"\x0b", b"\xc2\xa0"], &[b" "]);
    check(r"^[\d\-x]+$", &[b"1-x"], &[b"y"]);
    check(r"^[\W]$", &[b"-"], &[b"a"]);
    check(r"^[^\d\s]$", &[b"a", b"\x0b"], &[b"1", b" "]);
    check(r"\bfoo\b", &[b"a foo b", "\u{e9}foo\u{e9}".as_bytes()], &[b"afoo", b"foo_"]);
    // Inside an encoded character there is no position at all.
    check(r"\B", &["\u{e9}".as_bytes(), b"aa"], &["a\u{e9}a".as_bytes(), b"a"]);
    check("^[[:space:]]$", &[b"\x0b", b" "], &[b"\xc2\xa0"]);
    check("^[[:^alpha:]x[:digit:]]$", &[b"x", b"1", b"-"], &[b"a"]);
}

#[test]
fn case_folds_as_unicode_does() {
    check("(?i)k", &[b"k", b"K", "\u{212a}".as_bytes()], &[b"x"]);
    check("(?i)^[^k]$", &[b"x"], &["\u{212a}".as_bytes(), b"K"]);
    check(r"(?i)^\w$", &["\u{17f}".as_bytes()], &["\u{e9}".as_bytes()]);
    check(r"(?i)^\W$", &["\u{e9}".as_bytes()], &["\u{17f}".as_bytes(), b"s"]);
    check("(?i)\u{e9}", &["\u{c9}".as_bytes()], &[b"e"]);
    check("a(?i:b)c", &[b"aBc"], &[b"ABc", b"aBC"]);
    check("a(?i)b|c", &[b"aB", b"C"], &[b"AB"]);
    check("(a(?i)b)c", &[b"aBc"], &[b"aBC"]);
}

#[test]
fn flags() {
    check("(?s)a.b", &[b"a\nb"], &[]);
    check("(?m)^b$", &[b"a\nb\nc"], &[b"a\nbc"]);
    check("a$", &[b"a"], &[b"a\n", b"a\nb"]);
    check(r"\Aa\z", &[b"a"], &[b"a\n"]);
    check(r"(?m)\Aa\z", &[b"a"], &[b"a\n", b"\na"]);
    check("(?U)^a+?$", &[b"aaa"], &[b""]);
    check("(?iism)A", &[b"a"], &[]);
    check("(?i-i)A", &[b"A"], &[b"a"]);
    check("(?i)(?-i:A)b", &[b"AB"], &[b"ab"]);
    check("(?is-mU)a.", &[b"A\n"], &[]);
    check("(?)a(?:b)", &[b"ab"], &[]);
}

#[test]
fn quoting_and_escapes() {
    check(r"^\Qa.b*\E$", &[b"a.b*"], &[b"axb"]);
    check(r"\Q.(", &[b"x.("], &[b"x("]);
    check(r"\Qab\E+$", &[b"abb"], &[b"aba"]);
    check(r"\Q\E", &[b""], &[]);
    check(r"^\x41\x{42}\x{0000043}$", &[b"ABC"], &[]);
    check(r"^\101\060\0$", &[b"A0\0"], &[]);
}

#[test]
fn escaped_punctuation_is_itself() {
    for byte in 0..0x80_u8 {
        let character = char::from(byte);
        if !character.is_ascii_alphanumeric() {
            check(&format!("^(?:\\{character})$"), &[&[byte]], &[b"x"]);
            check(&format!("^[\\{character}]$"), &[&[byte]], &[b"x"]);
        }
    }
    check(r"\a\f\n\r\t\v", &[b"\x07\x0c\n\r\t\x0b"], &[]);
    check(r"^[\a\f\n\r\t\v]{6}$", &[b"\x07\x0c\n\r\t\x0b"], &[]);
}

#[test]
fn braces_that_repeat_nothing_are_literals() {
    check("^a{$", &[b"a{"], &[]);
    check("^a{x}$", &[b"a{x}"], &[]);
    check("^a{,2}$", &[b"a{,2}"], &[b"aa"]);
    check("^a{2$", &[b"a{2"], &[b"aa"]);
    check("^a{2,x}$", &[b"a{2,x}"], &[]);
    check("^a{02}$", &[b"a{02}"], &[b"aa"]);
    check("^a{ 2}$", &[b"a{ 2}"], &[]);
    check("^{}]$", &[b"{}]"], &[]);
    check("^a{2}$", &[b"aa"], &[b"a"]);
    check("^a{2,}?$", &[b"aaa"], &[b"a"]);
    check("^a{0,1}$", &[b"", b"a"], &[b"aa"]);
    check("^a{1000}$", &[&[b'a'; 1000]], &[&[b'a'; 999]]);
}

#[test]
fn classes_do_not_nest() {
    check("^[[a]$", &[b"[", b"a"], &[b"]"]);
    check("^[a[]]$", &[b"a]", b"[]"], &[b"a"]);
    check("^[a&&b]+$", &[b"a&b"], &[b"c"]);
    check("^[!--b]+$", &[b"b+,-"], &[b"a"]);
    check("^[a~~b]+$", &[b"a~b"], &[b"c"]);
    check("^[]a]+$", &[b"]a"], &[b"b"]);
    check("^[^]a]$", &[b"b"], &[b"]"]);
    check("^[-a]+$", &[b"a-"], &[b"b"]);
    check("^[a-]+$", &[b"a-"], &[b"b"]);
    check("^[^-a]$", &[b"b"], &[b"-"]);
    check("^[+--]+$", &[b"+,-"], &[b"."]);
    check(r"^[\x00-\x1f]$", &[b"\x01"], &[b" "]);
    check(r"^[\101-\103]$", &[b"B"], &[b"D"]);
    check(r"^[^\x00-\x{10FFFF}]$", &[], &[b"a"]);
    check("^[[:alpha]$", &[b":", b"[", b"p"], &[b"z"]);
    check(r"^[\^\]\\]$", &[b"^", b"]", b"\\"], &[b"["]);
    check("^[^a]$", &[b"\n"], &[b"a"]);
}

#[test]
fn stray_bytes_are_replacement_characters() {
    check("^.$", &[b"\xff", "\u{fffd}".as_bytes()], &[b"\xff\xff"]);
    check("^\u{fffd}{2}$", &[b"\xff\xfe", b"\xe2\x82"], &[b"\xff"]);
    check(r"^\x{fffd}a$", &[b"\x80a"], &[b"a"]);
    check("^...$", &[b"\xed\xa0\x80", b"a\xffb"], &[]);
    check("^\u{fffd}", &[b"\xff"], &[b"a"]);
    check("^[^a]+$", &[b"\xff\xc0"], &[]);
    check("abc", &[b"\xffabc\xff"], &[b"ab\xffc"]);
}

#[test]
fn errors_name_the_part() {
    for (expression, error) in [
        ("a(b", "missing closing ): `a(b`"),
        ("a)b", "unexpected ): `a)b`"),
        ("[a", "missing closing ]: `[a`"),
        ("x[]", "missing closing ]: `[]`"),
        ("[^", "missing closing ]: `[^`"),
        ("[a-", "missing closing ]: `[a-`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:wrong:]]", "invalid character class range: `[:wrong:]`"),
        (r"[a-\d]", r"invalid escape sequence: `\d`"),
        (r"[\b]", r"invalid escape sequence: `\b`"),
        (r"[\Qa\E]", r"invalid escape sequence: `\Q`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a|{2}", "missing argument to repetition operator: `{2}`"),
        ("(+)", "missing argument to repetition operator: `+`"),
        ("(?i)?", "missing argument to repetition operator: `?`"),
        ("a(?i)*", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a*+b", "invalid nested repetition operator: `*+`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a+???", "invalid nested repetition operator: `+???`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("a{1,1001}", "invalid repeat count: `{1,1001}`"),
        ("a{99999999999}", "invalid repeat count: `{99999999999}`"),
        ("(?=a)", "look-around is not supported: `(?=`"),
        ("a(?<!b)", "look-around is not supported: `(?<!`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?u)a", "invalid or unsupported Perl syntax: `(?u`"),
        ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?i-s-m)a", "invalid or unsupported Perl syntax: `(?i-s-`"),
        ("(?", "invalid or unsupported Perl syntax: `(?`"),
        ("(?P>n)", "invalid or unsupported Perl syntax: `(?P`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("(?P<>a)", "invalid named capture: `(?P<>`"),
        ("(?<a-b>a)", "invalid named capture: `(?<a-b>`"),
        (r"a\", "trailing backslash at end of expression"),
        (r"(a)\1", r"back-references are not supported: `\1`"),
        (r"a\Z", r"invalid escape sequence: `\Z`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\u{41}", r"invalid escape sequence: `\u`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        ("\\\u{e9}", "invalid escape sequence: `\\\u{e9}`"),
        (r"\x4", r"invalid escape sequence: `\x4`"),
        (r"\x{}", r"invalid escape sequence: `\x{}`"),
        (r"\x{41", r"invalid escape sequence: `\x{41`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000}`"),
        (r"\x{d800}", r"no character can be a surrogate: `\x{d800}`"),
        (r"^\pN$", r"Unicode classes are not supported: `\pN`; list the characters or ranges instead"),
        (r"[\P{Greek}a]", r"Unicode classes are not supported: `\P{Greek}`; list the characters or ranges instead"),
        (r"\p{Greek", r"Unicode classes are not supported: `\p{`; list the characters or ranges instead"),
        (r"\p", r"Unicode classes are not supported: `\p`; list the characters or ranges instead"),
    ] {
        assert_eq!(Pattern::new(expression).err().as_deref(), Some(error), "{expression}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let error = Pattern::new("([^a]{1000}){20}").unwrap_err();
    assert!(error.starts_with("expression too large"), "{error}");
    assert!(Pattern::new("((a{1000}){1000}){1000}").is_err());
    check("(((){1000}){1000}){1000}", &[b"a"], &[]);
    let deep = "(".repeat(100_000) + &")".repeat(100_000);
    let error = Pattern::new(&deep).unwrap_err();
    assert!(!error.contains('\n') && error.len() < 200, "{error}");
    let long = Pattern::new(&("(".to_string() + &"\n".repeat(1000))).unwrap_err();
    assert!(long.starts_with("missing closing ): `(\\n\\n") && long.ends_with("...") && long.len() < 210, "{long}");
    check("^[^1]{1,20}$", &["abc\u{e9}".as_bytes()], &[b"1"]);
}

#[test]
fn a_long_expression_is_refused_before_it_costs_anything() {
    for hostile in [format!("[{}", "[:".repeat(8_000_000)), "{".repeat(16_000_000)] {
        assert!(Pattern::new(&hostile).unwrap_err().starts_with("expression too large"));
    }
    compile(&"{".repeat(1_000));
}

#[test]
fn linear_time_on_what_makes_others_explode() {
    let value = vec![b'a'; 4_000];
    check("^(a+)+$", &[&value], &[&[&value[..], b"b"].concat()]);
    check("(a?){30}a{30}b", &[], &[&value]);
}

#[test]
fn an_expression_sees_the_first_four_kilobytes() {
    let long = |end: &[u8]| [&vec![b'a'; 4_096 - end.len()], end, b"c"].concat();
    check("b$", &[&long(b"b")], &[&long(b"")]);
    check("c", &[b"c"], &[&long(b"b")]);
    let hostile = vec![b'a'; 100_000];
    check("[a-z]{1,500}x", &[], &[&hostile]);
}

proptest! {
    #[test]
    fn nothing_panics_and_errors_are_one_line(
        expression in r"(\PC|\n|[\\(){}\[\]^$.*+?|:<>=!0-9a-fA-FpPQExisUm-]|\(\?|\[\^|\\Q){0,24}",
        value in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        match Pattern::new(&expression) {
            Ok(pattern) => { pattern.is_match(&value); }
            Err(error) => prop_assert!(!error.is_empty() && !error.contains(char::is_control), "{}", error),
        }
    }

    #[test]
    fn a_translated_expression_always_compiles(expression in r"[\\(){}\[\]^$.*+?|:<>=!0-9a-cApPQExisUm&~-]{0,12}") {
        if let Ok(translated) = translate::translate(&expression) {
            prop_assert!(Regex::new(&translated).is_ok(), "{} became {}", expression, translated);
        }
    }

    #[test]
    fn quoted_text_is_itself(literal in r"[^\\]{0,12}", around in ".{0,6}") {
        let pattern = compile(&format!("(?s)^.*\\Q{literal}\\E"));
        let value = format!("{around}{literal}{around}");
        prop_assert!(pattern.is_match(value.as_bytes()));
    }

    #[test]
    fn the_fast_path_decides_as_the_engine_does(
        expression in r"\^(a|b|\\\.|\\\$|\\-|\]|é){0,4}(\.\*|\$|)",
        value in prop::collection::vec(prop::sample::select(&b"ab.$-]\xc3\xa9\n\xff"[..]), 0..6),
    ) {
        let fast = simple(&expression).expect("a simple form");
        let slow = Pattern::Regex(Regex::new(&translate::translate(&expression).unwrap()).unwrap());
        prop_assert_eq!(fast.is_match(&value), slow.is_match(&value), "{}", expression);
    }
}
