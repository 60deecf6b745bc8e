//! Values of every CQL type as CQL writes them, and the text that a PostgreSQL client sees.

/// A column's CQL type; its values as literals; what each is read as, `None` for null.
pub type Column = (&'static str, &'static [(&'static str, Option<&'static str>)]);

const fn seen(text: &'static str) -> Option<&'static str> {
    Some(text)
}

const HUNDRED_DIGITS: &str =
    "1234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890";
const MINUS_HUNDRED_DIGITS_AND_A_FRACTION: &str =
    "-1234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890.5";

/// Types without parts.
pub const NATIVE: &[Column] = &[
    ("ascii", &[("''", seen("")), ("'a b'", seen("a b")), ("'~'", seen("~"))]),
    (
        "text",
        &[
            ("''", seen("")),
            ("' '", seen(" ")),
            ("'null'", seen("null")),
            ("'Zürich 🦀 日本'", seen("Zürich 🦀 日本")),
            ("'it''s \"quoted\" \\ and, {so} (on)'", seen("it's \"quoted\" \\ and, {so} (on)")),
            ("null", None),
        ],
    ),
    ("boolean", &[("true", seen("t")), ("false", seen("f")), ("null", None)]),
    ("tinyint", &[("-128", seen("-128")), ("127", seen("127")), ("0", seen("0"))]),
    ("smallint", &[("-32768", seen("-32768")), ("32767", seen("32767")), ("0", seen("0"))]),
    ("int", &[("-2147483648", seen("-2147483648")), ("2147483647", seen("2147483647")), ("0", seen("0"))]),
    (
        "bigint",
        &[
            ("-9223372036854775808", seen("-9223372036854775808")),
            ("9223372036854775807", seen("9223372036854775807")),
            ("0", seen("0")),
        ],
    ),
    (
        "float",
        &[
            ("NaN", seen("NaN")),
            ("Infinity", seen("Infinity")),
            ("-Infinity", seen("-Infinity")),
            ("-0.0", seen("-0")),
            ("1.4E-45", seen("1e-45")),
            ("3.4028235E38", seen("3.4028235e+38")),
            ("0.1", seen("0.1")),
        ],
    ),
    (
        "double",
        &[
            ("NaN", seen("NaN")),
            ("Infinity", seen("Infinity")),
            ("-Infinity", seen("-Infinity")),
            ("-0.0", seen("-0")),
            ("4.9E-324", seen("5e-324")),
            ("1.7976931348623157E308", seen("1.7976931348623157e+308")),
            ("0.1", seen("0.1")),
        ],
    ),
    (
        "decimal",
        &[
            ("0", seen("0")),
            ("0.00", seen("0.00")),
            ("-0.01", seen("-0.01")),
            ("100", seen("100")),
            // Equal to 100, but not the same bytes: text keeps the scale.
            ("1E+2", seen("1E+2")),
            ("0E+3", seen("0E+3")),
            ("1E-7", seen("0.0000001")),
            ("7E+300", seen("7E+300")),
            ("7E-2147483647", seen("7E-2147483647")),
            (HUNDRED_DIGITS, seen(HUNDRED_DIGITS)),
            (MINUS_HUNDRED_DIGITS_AND_A_FRACTION, seen(MINUS_HUNDRED_DIGITS_AND_A_FRACTION)),
        ],
    ),
    (
        "varint",
        &[
            ("0", seen("0")),
            ("-1", seen("-1")),
            ("127", seen("127")),
            ("128", seen("128")),
            ("-128", seen("-128")),
            ("-129", seen("-129")),
            ("255", seen("255")),
            (HUNDRED_DIGITS, seen(HUNDRED_DIGITS)),
        ],
    ),
    ("blob", &[("0x", seen("\\x")), ("0x00", seen("\\x00")), ("0xff00ff", seen("\\xff00ff"))]),
    (
        "date",
        &[
            // As numbers, days from -5877641-06-23.
            ("0", seen("5877642-06-23 BC")),
            ("4294967295", seen("5881580-07-11")),
            ("'0001-01-01'", seen("0001-01-01")),
            ("'1969-12-31'", seen("1969-12-31")),
            ("'2024-02-29'", seen("2024-02-29")),
            ("'9999-12-31'", seen("9999-12-31")),
        ],
    ),
    (
        "time",
        &[
            ("'00:00:00'", seen("00:00:00")),
            ("'12:00:00.000001'", seen("12:00:00.000001")),
            // Nanoseconds are kept, PostgreSQL's protocol has microseconds.
            ("'23:59:59.999999999'", seen("23:59:59.999999")),
        ],
    ),
    (
        "timestamp",
        &[
            ("0", seen("1970-01-01 00:00:00+00")),
            ("-1", seen("1969-12-31 23:59:59.999+00")),
            ("253402300799999", seen("9999-12-31 23:59:59.999+00")),
            ("-62135596800001", seen("0001-12-31 23:59:59.999+00 BC")),
            // The last millisecond that is a number of microseconds.
            ("9223372036854775", seen("294247-01-10 04:00:54.775+00")),
            ("9223372036854775807", seen("infinity")),
            ("-9223372036854775808", seen("-infinity")),
        ],
    ),
    (
        "duration",
        &[
            ("0s", seen("00:00:00")),
            ("1mo2d3h", seen("1 mon 2 days 03:00:00")),
            ("-1mo2d3h", seen("-1 mons -2 days -03:00:00")),
            (
                "2147483647mo2147483647d9223372036854775807ns",
                seen("178956970 years 7 mons 2147483647 days 2562047:47:16.854775"),
            ),
            (
                "-2147483647mo2147483647d9223372036854775807ns",
                seen("-178956970 years -7 mons -2147483647 days -2562047:47:16.854775"),
            ),
        ],
    ),
    (
        "uuid",
        &[
            ("00000000-0000-0000-0000-000000000000", seen("00000000-0000-0000-0000-000000000000")),
            ("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", seen("ffffffff-ffff-ffff-ffff-ffffffffffff")),
        ],
    ),
    (
        "timeuuid",
        &[
            ("00000000-0000-1000-8080-808080808080", seen("00000000-0000-1000-8080-808080808080")),
            ("ffffffff-ffff-1fff-bf7f-7f7f7f7f7f7f", seen("ffffffff-ffff-1fff-bf7f-7f7f7f7f7f7f")),
        ],
    ),
    (
        "inet",
        &[
            ("'0.0.0.0'", seen("0.0.0.0")),
            ("'255.255.255.255'", seen("255.255.255.255")),
            ("'::'", seen("::")),
            ("'2001:db8::1'", seen("2001:db8::1")),
            ("'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'", seen("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
        ],
    ),
];

/// Types with parts: collections, tuples, user-defined types, vectors, and what nests in them.
///
/// `address` is a user-defined type of `street text, number int, tags frozen<set<text>>`.
pub const NESTED: &[Column] = &[
    // Cassandra keeps no empty collection unless it is frozen.
    ("list<int>", &[("[]", None), ("[2, 1, 2]", seen("{2,1,2}")), ("[-2147483648]", seen("{-2147483648}"))]),
    ("frozen<list<int>>", &[("[]", seen("{}")), ("[7]", seen("{7}")), ("null", None)]),
    ("list<text>", &[("['', 'null', 'a,b', 'c']", seen("{\"\",\"null\",\"a,b\",c}"))]),
    ("list<double>", &[("[NaN, -0.0, Infinity]", seen("{NaN,-0,Infinity}"))]),
    ("set<int>", &[("{}", None), ("{3, -1, 2, 3}", seen("{-1,2,3}"))]),
    ("frozen<set<text>>", &[("{}", seen("{}")), ("{'b', '', 'a'}", seen("{\"\",a,b}"))]),
    ("set<varint>", &[("{128, -129}", seen("{-129,128}"))]),
    ("map<text, int>", &[("{}", None), ("{'': 0, 'k': -1}", seen("{\"\":0,\"k\":-1}"))]),
    ("frozen<map<int, text>>", &[("{}", seen("{}")), ("{2: 'b', 1: ''}", seen("{\"1\":\"\",\"2\":\"b\"}"))]),
    (
        "map<inet, uuid>",
        &[(
            "{'::1': 00000000-0000-0000-0000-000000000001}",
            seen("{\"::1\":\"00000000-0000-0000-0000-000000000001\"}"),
        )],
    ),
    ("map<date, duration>", &[("{'2024-02-29': -1d}", seen("{\"2024-02-29\":\"-1 days\"}"))]),
    ("map<frozen<tuple<int, text>>, decimal>", &[("{(1, 'x'): 1.50}", seen("{\"(1,x)\":\"1.50\"}"))]),
    (
        "list<frozen<map<text, frozen<set<int>>>>>",
        &[("[{'a': {1, 2}, 'b': {}}, {}]", seen("[{\"a\":[1,2],\"b\":[]},{}]")), ("[]", None)],
    ),
    (
        "frozen<map<int, map<text, list<tuple<date, duration>>>>>",
        &[
            (
                "{1: {'x': [('2024-02-29', -3h), (null, null)]}}",
                seen("{\"1\":{\"x\":[{\"c0\":\"2024-02-29\",\"c1\":\"-03:00:00\"},{\"c0\":null,\"c1\":null}]}}"),
            ),
            ("{1: {}, 2: {'y': []}}", seen("{\"1\":{},\"2\":{\"y\":[]}}")),
        ],
    ),
    ("set<frozen<list<frozen<map<int, text>>>>>", &[("{[{1: 'a'}], []}", seen("[[],[{\"1\":\"a\"}]]"))]),
    (
        "tuple<int, text, double>",
        &[
            ("(1, 'x', -0.0)", seen("(1,x,-0)")),
            ("(null, '', NaN)", seen("(,\"\",NaN)")),
            ("(null, null, null)", seen("(,,)")),
        ],
    ),
    (
        "tuple<frozen<tuple<int, frozen<list<text>>>>, inet>",
        &[("((1, ['a', '']), '::')", seen("(\"(1,\"\"{a,\"\"\"\"\"\"\"\"}\"\")\",::)")), ("(null, null)", seen("(,)"))],
    ),
    (
        "address",
        &[
            ("{street: 'Main', number: 5, tags: {'x', 'y'}}", seen("(Main,5,\"{x,y}\")")),
            ("{street: '', number: null, tags: {}}", seen("(\"\",,{})")),
            // An unfrozen value without any field is no value.
            ("{street: null}", None),
        ],
    ),
    (
        "frozen<address>",
        &[
            ("{street: 'Main', number: -1, tags: null}", seen("(Main,-1,)")),
            ("{street: null}", seen("(,,)")),
            ("null", None),
        ],
    ),
    (
        "list<frozen<address>>",
        &[(
            "[{street: 'a', tags: {'t'}}, {number: 1}]",
            seen("[{\"street\":\"a\",\"number\":null,\"tags\":[\"t\"]},{\"street\":null,\"number\":1,\"tags\":null}]"),
        )],
    ),
    (
        "map<text, frozen<address>>",
        &[("{'home': {street: 'a', number: 0}}", seen("{\"home\":{\"street\":\"a\",\"number\":0,\"tags\":null}}"))],
    ),
    ("vector<float, 3>", &[("[1.5, -0.0, 3.4028235E38]", seen("{1.5,-0,3.4028235e+38}")), ("null", None)]),
    ("vector<int, 2>", &[("[-2147483648, 2147483647]", seen("{-2147483648,2147483647}"))]),
    ("vector<smallint, 2>", &[("[-32768, 32767]", seen("{-32768,32767}"))]),
    ("vector<varint, 2>", &[("[128, -129]", seen("{128,-129}"))]),
    ("vector<text, 2>", &[("['', 'a b']", seen("{\"\",\"a b\"}"))]),
    ("vector<vector<text, 2>, 2>", &[("[['a', ''], ['b', 'c']]", seen("[[\"a\",\"\"],[\"b\",\"c\"]]"))]),
    ("vector<vector<int, 2>, 2>", &[("[[1, 2], [3, 4]]", seen("[[1,2],[3,4]]"))]),
    ("vector<frozen<list<int>>, 2>", &[("[[1, 2], []]", seen("[[1,2],[]]"))]),
    (
        "vector<timeuuid, 1>",
        &[("[00000000-0000-1000-8080-808080808080]", seen("{00000000-0000-1000-8080-808080808080}"))],
    ),
    ("frozen<list<vector<float, 2>>>", &[("[[1, 2], [-1, 0.5]]", seen("[[1,2],[-1,0.5]]"))]),
];

/// Types that order rows: the columns of a clustering key, here descending, each with its smallest and largest value.
pub const ORDERED: &[(&str, [&str; 2])] = &[
    ("ascii", ["''", "'~'"]),
    ("bigint", ["-9223372036854775808", "9223372036854775807"]),
    ("blob", ["0x", "0xffff"]),
    ("boolean", ["false", "true"]),
    ("date", ["0", "4294967295"]),
    ("decimal", ["-1E+300", "1E+300"]),
    ("double", ["-Infinity", "NaN"]),
    ("float", ["-Infinity", "NaN"]),
    ("inet", ["'0.0.0.0'", "'ffff::'"]),
    ("int", ["-2147483648", "2147483647"]),
    ("smallint", ["-32768", "32767"]),
    ("text", ["''", "'🦀'"]),
    ("time", ["'00:00:00'", "'23:59:59.999999999'"]),
    ("timestamp", ["-62135596800001", "253402300799999"]),
    ("timeuuid", ["00000000-0000-1000-8080-808080808080", "ffffffff-ffff-1fff-bf7f-7f7f7f7f7f7f"]),
    ("tinyint", ["-128", "127"]),
    ("uuid", ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    ("varint", ["-1000000000000000000000", "1000000000000000000000"]),
    ("frozen<list<int>>", ["[]", "[2147483647]"]),
    ("frozen<set<text>>", ["{}", "{'z'}"]),
    ("frozen<map<int, text>>", ["{1: ''}", "{1: 'z'}"]),
    ("frozen<tuple<int, text>>", ["(null, null)", "(1, 'z')"]),
    ("frozen<address>", ["{street: null}", "{street: 'z', number: 1, tags: {'t'}}"]),
    ("vector<float, 2>", ["[-1, -1]", "[1, 1]"]),
];
