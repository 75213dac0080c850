package org_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"orgservice/shared/org"
)

func mustParseName(t *testing.T, s string) org.Name {
	t.Helper()
	n, err := org.ParseName(s)
	if err != nil {
		t.Fatalf("ParseName(%q): %v", s, err)
	}
	return n
}

func TestParseName(t *testing.T) {
	for _, tt := range []struct{ name, in, display, slug string }{
		{"OK", "Akshay Pvt Ltd", "Akshay Pvt Ltd", "akshay_pvt_ltd"},
		{"one letter", "x", "x", "x"},
		{"digits", "42", "42", "42"},
		{"punctuation inside", "Smith & Sons, Inc.", "Smith & Sons, Inc.", "smith_sons_inc"},
		{"punctuation around", "--(Acme)--", "--(Acme)--", "acme"},
		{"underscores", "__a___b__", "__a___b__", "a_b"},
		{"white space around", "  Acme\t\n", "Acme", "acme"},
		{"white space inside", "Acme \t\r\n  Inc", "Acme Inc", "acme_inc"},
		{"next line is white space", "Acme\u0085Inc", "Acme Inc", "acme_inc"},
		{"line separator is white space", "Acme\u2028Inc", "Acme Inc", "acme_inc"},
		{"no-break and ideographic space", "Acme\u00a0\u3000Inc", "Acme Inc", "acme_inc"},
		{"full width", "Ａｃｍｅ　１２", "Acme 12", "acme_12"},
		{"ligature", "Oﬃce", "Office", "office"},
		{"superscript", "x²", "x2", "x2"},
		{"Roman numeral", "Ⅷ", "VIII", "viii"},
		{"composed", "Cafe\u0301", "Café", "café"},
		{"sharp s", "Straße", "Straße", "strasse"},
		{"capital sharp s", "STRAẞE", "STRAẞE", "strasse"},
		{"final sigma", "ΟΔΟΣ", "ΟΔΟΣ", "οδοσ"},
		{"final sigma in lower case", "οδος", "οδος", "οδοσ"},
		{"dotted capital i", "İzmir", "İzmir", "i\u0307zmir"},
		{"dotless i stays", "ıx", "ıx", "ıx"},
		{"Kelvin sign", "\u212aelvin", "Kelvin", "kelvin"},
		{"Chinese", "東京 株式会社", "東京 株式会社", "東京_株式会社"},
		{"Arabic", "شركة النور", "شركة النور", "شركة_النور"},
		{"Devanagari", "राम", "राम", "राम"},
		{"Thai", "น้ำ", "น\u0e49\u0e4d\u0e32", "น\u0e49\u0e4d\u0e32"},
		{"Arabic-Indic digits", "شركة ٤٢", "شركة ٤٢", "شركة_٤٢"},
		{"zero-width joiner", "Ac\u200dme", "Ac\u200dme", "acme"},
		{"zero-width space", "Ac\u200bme", "Ac\u200bme", "acme"},
		{"soft hyphen", "Ac\u00adme", "Ac\u00adme", "acme"},
		{"byte order mark", "\ufeffAcme", "\ufeffAcme", "acme"},
		{"variation selector", "Acme\ufe0f", "Acme\ufe0f", "acme"},
		{"emoji around letters", "🚀 Acme 🚀", "🚀 Acme 🚀", "acme"},
		{"family emoji", "a👨‍👩‍👧b", "a👨‍👩‍👧b", "a_b"},
		{"mark without a letter", "\u0301 x", "\u0301 x", "x"},
		{"operators", `{"$ne": "acme"}`, `{"$ne": "acme"}`, "ne_acme"},
		{"path", "../../acme", "../../acme", "acme"},
		{"dots", "system.indexes", "system.indexes", "system_indexes"},
		{"markup", "<b>Acme</b>", "<b>Acme</b>", "b_acme_b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := mustParseName(t, tt.in)
			if diff := cmp.Diff(org.Name{Display: tt.display, Slug: tt.slug}, got); diff != "" {
				t.Errorf("ParseName(%q) (-want +got):\n%s", tt.in, diff)
			}
			if want := "org_" + tt.slug; got.Collection() != want {
				t.Errorf("Collection = %q, want %q", got.Collection(), want)
			}
			checkName(t, got)
		})
	}
}

func TestParseNameErr(t *testing.T) {
	for _, tt := range []struct{ name, in string }{
		{"empty", ""},
		{"white space", " \t\r\n\u00a0\u3000"},
		{"punctuation", "---"},
		{"underscores", "___"},
		{"operators", "$.*"},
		{"emoji", "🚀🚀"},
		{"marks", "\u0301\u0301"},
		{"invisible", "\u200b\u200d\ufeff"},
		{"NUL", "Ac\x00me"},
		{"bell", "Acme\a"},
		{"escape", "\x1b[31mAcme"},
		{"delete", "Acme\x7f"},
		{"C1 control", "Acme\u0090"},
		{"right-to-left override", "Acme\u202egnp.exe"},
		{"left-to-right embedding", "\u202aAcme"},
		{"isolate", "\u2066Acme\u2069"},
		{"right-to-left mark", "\u200fAcme"},
		{"Arabic letter mark", "\u061cAcme"},
		{"replacement character", "Ac\ufffdme"},
		{"malformed", "Ac\xffme"},
		{"cut off", "Caf\xc3"},
		{"surrogate", "Ac\xed\xa0\x80me"},
		{"overlong", "Ac\xc0\x80me"},
		{"101 characters", strings.Repeat("x", 101)},
		{"101 characters of four bytes", strings.Repeat("𝒜", 101)},
		{"100 characters that expand to more", strings.Repeat("ﷺ", 100)},
		{"a megabyte", strings.Repeat("x", 1<<20)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if n, err := org.ParseName(tt.in); err == nil {
				t.Errorf("ParseName(%.100q) = %+v, want an error", tt.in, n)
			}
		})
	}
}

func TestParseNameLength(t *testing.T) {
	for _, tt := range []struct{ name, in string }{
		{"100 letters", strings.Repeat("x", 100)},
		{"100 letters of three bytes", strings.Repeat("क", 100)},
		{"100 letters of four bytes", strings.Repeat("𐐀", 100)},
		{"100 after white space is removed", "  " + strings.Repeat("x  ", 49) + "xx  "},
		{"100 letters, decomposed", strings.Repeat("e\u0301", 100)},
	} {
		t.Run(tt.name, func(t *testing.T) { checkName(t, mustParseName(t, tt.in)) })
	}
}

func TestSameName(t *testing.T) {
	for _, tt := range []struct {
		name  string
		names []string
	}{
		{"case", []string{"Acme Inc", "acme inc", "ACME INC", "aCmE iNc"}},
		{"punctuation", []string{"Acme Inc", "Acme-Inc.", "acme_inc", "(Acme) / Inc!", "Acme…Inc"}},
		{"width", []string{"Acme 1", "Ａｃｍｅ　１", "𝐀𝐜𝐦𝐞 𝟏"}},
		{"composition", []string{"Café", "Cafe\u0301", "CAFÉ", "CAFE\u0301"}},
		{"sharp s", []string{"Straße", "STRASSE", "STRAẞE"}},
		{"sigma", []string{"ΟΔΟΣ", "οδος", "οδοσ"}},
		{"invisible", []string{"Acme", "Ac\u200dme", "A\u200bc\u00adm\u2060e", "Acme\ufe0f"}},
		{"invisible before a mark", []string{"Café", "Cafe\u200d\u0301", "Cafe\u034f\u0301"}},
		{"invisible within a syllable", []string{"한", "\u1112\u200b\u1161\u200b\u11ab"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := mustParseName(t, tt.names[0]).Slug
			for _, name := range tt.names[1:] {
				if got := mustParseName(t, name).Slug; got != want {
					t.Errorf("slug of %+q = %+q, want %+q, the slug of %+q", name, got, want, tt.names[0])
				}
			}
		})
	}
}

func TestDifferentNames(t *testing.T) {
	long := strings.Repeat("x", 60)
	for _, tt := range []struct {
		name  string
		names []string
	}{
		{"Devanagari vowels", []string{"राम", "रोम", "रम", "रीम"}},
		{"accents", []string{"resume", "resumé", "résumé"}},
		{"Hebrew vowels", []string{"שלום", "שָׁלוֹם"}},
		{"word boundaries", []string{"Ac me", "Acme", "A cme"}},
		{"scripts", []string{"Acme", "Асме"}},
		{"i with and without a dot", []string{"Izmir", "ızmir", "İzmir"}},
		{"long names with the same beginning", []string{
			long + " north east", long + " north west", long + " south",
		}},
		{"long names with another last letter", []string{strings.Repeat("क", 99) + "ख", strings.Repeat("क", 99) + "ग"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var slugs []string
			for _, name := range tt.names {
				slug := mustParseName(t, name).Slug
				if slices.Contains(slugs, slug) {
					t.Errorf("slug of %+q = %+q, which another name has", name, slug)
				}
				slugs = append(slugs, slug)
			}
		})
	}
}

func TestLongSlug(t *testing.T) {
	sum := func(slug string) string {
		s := sha256.Sum256([]byte(slug))
		return hex.EncodeToString(s[:4])
	}
	x64 := strings.Repeat("x", 64)
	for _, tt := range []struct{ name, in, want string }{
		{"64 bytes are kept", x64, x64},
		{"64 bytes of two-byte letters are kept", strings.Repeat("é", 32), strings.Repeat("é", 32)},
		{"65 bytes", x64 + "x", x64[:55] + "_" + sum(x64+"x")},
		{"100 bytes", strings.Repeat("x", 100), x64[:55] + "_" + sum(strings.Repeat("x", 100))},
		// 55 is not a multiple of 2, 3 or 4.
		{"two bytes each", strings.Repeat("é", 33), strings.Repeat("é", 27) + "_" + sum(strings.Repeat("é", 33))},
		{"three bytes each", strings.Repeat("क", 100), strings.Repeat("क", 18) + "_" + sum(strings.Repeat("क", 100))},
		{"four bytes each", strings.Repeat("𐐨", 100), strings.Repeat("𐐨", 13) + "_" + sum(strings.Repeat("𐐨", 100))},
		{"cut after an underscore", x64[:54] + " " + x64[:20], x64[:54] + "_" + sum(x64[:54]+"_"+x64[:20])},
		{"cut before an underscore", x64[:55] + " " + x64[:20], x64[:55] + "_" + sum(x64[:55]+"_"+x64[:20])},
		{"the hash is that of the slug", strings.Repeat("X", 65), x64[:55] + "_" + sum(x64+"x")},
		{"folding makes it long", strings.Repeat("ß", 33), strings.Repeat("s", 55) + "_" + sum(strings.Repeat("s", 66))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := mustParseName(t, tt.in)
			if n.Slug != tt.want {
				t.Errorf("slug = %q, want %q", n.Slug, tt.want)
			}
			checkName(t, n)
		})
	}
}

// wellFormedSlug matches words of letters, marks and digits, separated by
// single underscores.
var wellFormedSlug = regexp.MustCompile(`^[\pL\p{Nd}][\pL\p{Nd}\p{Mn}\p{Mc}]*(_[\pL\p{Nd}][\pL\p{Nd}\p{Mn}\p{Mc}]*)*$`)

// checkName fails the test if n lacks a property that every name has.
func checkName(t *testing.T, n org.Name) {
	t.Helper()
	if len(n.Slug) > 64 || !utf8.ValidString(n.Slug) || !wellFormedSlug.MatchString(n.Slug) {
		t.Errorf("slug %+q of %d bytes", n.Slug, len(n.Slug))
	}
	if c := n.Collection(); c != "org_"+n.Slug || strings.ContainsAny(c, "$.:\x00") {
		t.Errorf("collection %+q", c)
	}
	if c := utf8.RuneCountInString(n.Display); c < 1 || c > 100 || !utf8.ValidString(n.Display) {
		t.Errorf("display %+q of %d characters", n.Display, c)
	}
	again, err := org.ParseName(n.Display)
	if err != nil || again != n {
		t.Errorf("ParseName(%+q) = %+v, %v; want %+v", n.Display, again, err, n)
	}
	if again, err := org.ParseName(n.Slug); err != nil || again.Slug != n.Slug {
		t.Errorf("ParseName(%+q) = %+v, %v; a slug is its own slug", n.Slug, again, err)
	}
}

func FuzzParseName(f *testing.F) {
	for _, seed := range []string{
		"Akshay Pvt Ltd", "", " ", "x", "_", "Straße", "İ", "ΟΔΟΣ", "राम", "Ａｃｍｅ", "a\u0301", "\u0301a", "¨a",
		"a👨‍👩‍👧b", "\x00", "\xff", "\u202e", strings.Repeat("ß", 100), strings.Repeat("क", 100),
		strings.Repeat("x", 54) + " " + strings.Repeat("x", 46), "ﷺ", "ͅ", "ᾳ", "a\u20ddb", "½", "$ne", "a.b", "ǰ",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := org.ParseName(s)
		if err != nil {
			if n != (org.Name{}) || err.Error() == "" {
				t.Errorf("ParseName(%q) = %+v, %v", s, n, err)
			}
			return
		}
		checkName(t, n)
		for _, other := range []string{strings.ToLower(s), strings.ToUpper(s)} {
			// If EqualFold says no, they may be different names.
			if o, err := org.ParseName(other); err == nil && strings.EqualFold(s, other) && o.Slug != n.Slug {
				t.Errorf("slugs %+q of %+q and %+q of %+q differ", n.Slug, s, o.Slug, other)
			}
		}
	})
}

// TestMixedScripts checks that a new name has no word that mixes scripts, whereas one of an
// older version is found by it.
func TestMixedScripts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		want string // the scripts that the message names; empty: the name is good
	}{
		{"Paypal", ""},
		{"P\u0430ypal", "Cyrillic and Latin"},
		{"Group P\u0430ypal Ltd", "Cyrillic and Latin"},
		{"P\u200d\u0430ypal", "Cyrillic and Latin"},
		{"\U0001d4ab\u0430", "Cyrillic and Latin"}, // a mathematical P
		{"\uff30\u0430", "Cyrillic and Latin"},     // one in full width
		{"\u03bfffice", "Greek and Latin"},
		{"日本\u0430", "Cyrillic and Han"},
		{"ㄅひ", "Bopomofo and Hiragana"},
		{"한ア", "Hangul and Katakana"},
		{"Альфа Bank", ""},
		{"Альфа-Bank", ""},
		{"Яндекс 360", ""},
		{"Tシャツ工房", ""},
		{"日本語テスト", ""},
		{"株式会社ABC", ""},
		{"삼성SDI", ""},
		{"漢字한글", ""},
		{"राम 3M", ""},
		{"Café Zoë", ""},
		{"Cafe\u0301", ""},
		{"שָׁלוֹם", ""},
		{"3M₂", ""},
		{"µTorrent", ""},
		{"プラスα", ""},
		{"株式会社Ω", ""},
		{"İzmir", ""},
	} {
		r := org.CreateRequest{OrganizationName: tt.name, Email: "a@example.com", Password: adminPassword}
		var want []org.FieldError
		if tt.want != "" {
			want = []org.FieldError{{Field: "organization_name", Message: "must not mix " + tt.want + " in one word"}}
		}
		if diff := cmp.Diff(want, r.Validate()); diff != "" {
			t.Errorf("%+q (-want +got):\n%s", tt.name, diff)
		}
		if diff := cmp.Diff(want, org.CreateOrganizationRequest{OrganizationName: tt.name}.Validate()); diff != "" {
			t.Errorf("one more organization %+q (-want +got):\n%s", tt.name, diff)
		}
		if diff := cmp.Diff(want, org.OwnerRequest{OrganizationName: tt.name, Email: "a@example.com"}.Validate()); diff != "" {
			t.Errorf("by an operator %+q (-want +got):\n%s", tt.name, diff)
		}
	}

	for _, name := range []string{"Mi\u0307crosoft", "Pay\ue000раӏ", "Pay\uffffраӏ", "Pay\U0001d159раӏ", "Acme\u2800"} {
		r := org.CreateOrganizationRequest{OrganizationName: name}
		if fields := r.Validate(); len(fields) != 1 || !strings.Contains(fields[0].Message, "can't be seen") {
			t.Errorf("%+q: %v", name, fields)
		}
	}

	const older, other = "P\u0430ypal", "\u0410cme"
	f := newFixture(t)
	o := f.insertOldNamed(t, older, "a@example.com")
	caller := f.mustLogin(t, "a@example.com", adminPassword)
	rename := func(name string) error {
		_, err := f.Update(t.Context(), caller, org.UpdateRequest{OrganizationName: &name})
		return err
	}
	if got, err := f.Get(t.Context(), older); err != nil || got.ID != o.id.Hex() {
		t.Errorf("%+v, %v", got, err)
	}
	if err := rename("  " + older); err != nil { // what it is called
		t.Error(err)
	}
	if err := rename(other); !errors.Is(err, org.ErrInvalid) || !strings.Contains(err.Error(), "Cyrillic and Latin") {
		t.Errorf("rename: %v", err)
	}
	if _, err := f.Login(t.Context(), org.LoginRequest{Email: "a@example.com", Password: adminPassword, OrganizationName: new(older)}); err != nil {
		t.Error(err)
	}
	if _, err := f.Delete(t.Context(), caller, org.DeleteRequest{Confirmation: new(older)}); err != nil {
		t.Error(err)
	}
}
