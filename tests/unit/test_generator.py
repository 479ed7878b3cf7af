from __future__ import annotations

import json
import posixpath
import re
import string
import xml.etree.ElementTree as ET
from dataclasses import replace
from importlib import resources
from urllib.parse import unquote, urljoin, urlsplit

import html5lib
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from sitegenctl.domain.orders import generation as briefs
from sitegenctl.domain.orders.generation import Brief, TeamMember
from sitegenctl.worker.generator.generator import generate
from sitegenctl.worker.generator.sanitize import MAX_SLUG, mail_link, opening_hours, phone_digits, slugs, web_address
from sitegenctl.worker.generator.site import MAX_SERVICE_PAGES
from sitegenctl.worker.generator.voice import Language, Tone, Voice, is_brazilian, texts
from sitegenctl.worker.plugins import checked

ENGLISH, PORTUGUESE = texts(Language.ENGLISH), texts(Language.PORTUGUESE)
XHTML = "{http://www.w3.org/1999/xhtml}"
SITEMAP = "{http://www.sitemaps.org/schemas/sitemap/0.9}"

PLUMBER = Brief(
    order_id=1,
    business_name="Hill Country Plumbing",
    business_email="office@hillcountry.example",
    business_phone="(512) 555-0142",
    niche="PLUMBER",
    primary_city="Austin",
    state="TX",
    primary_service="Drain cleaning",
    services=["Water heaters", "Drain cleaning", "Repiping"],
    service_descriptions={"Water heaters": "Tank and tankless.\n\nRepair and replacement."},
    business_address="2411 S Lamar Blvd",
    service_areas=["Round Rock", "Cedar Park"],
    business_hours={"Sunday": "Closed", "Sat": "8am-2pm", "Mon-Fri": "7:00 am - 6:00 pm"},
    social={"facebook": "facebook.com/hillcountry", "instagram": "@hillcountry"},
    testimonials=[briefs.Testimonial(name="Dana", text="Hot water by evening.", role="Austin")],
    about_owner="Ray started the company.",
    team_members=[TeamMember(name="Ray", role="Owner")],
    years_in_business=12,
    primary_color="#0b4f9e",
    secondary_color="#12263f",
    accent_color="#ff7a1a",
    google_reviews_link="https://g.page/r/abc",
    site_url="https://hillcountry.example/",
)
DENTIST = Brief(
    order_id=2,
    business_name="Clínica Sorriso",
    business_email="contato@sorriso.com.br",
    business_phone="(19) 98765-4321",
    niche="DENTIST",
    primary_city="Campinas",
    state="SP",
    primary_service="Implantes",
    services=["Implantes", "Ortodontia"],
    tone="FRIENDLY",
    primary_cta="WHATSAPP",
    has_whatsapp=True,
    business_hours={"segunda-feira": "08:00 às 18:00", "terça": "08:00 às 18:00", "sábado": "8h-12h"},
    primary_color="#FFF5B8",
)
BARE = Brief(
    order_id=3,
    business_name="",
    business_email="",
    business_phone="",
    niche="",
    primary_city="",
    state="",
    primary_service="",
    services=[],
)
HOSTILE_TEXT = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \"q\" 'a' {{ 7*7 }} {name} %s ]]> --> \\ ;"
)
NOISE = "\u202e\u2066\x00\x1b\x85\u2028\ufdd0\uffff\ud800"
HOSTILE = Brief(
    order_id=4,
    business_name=HOSTILE_TEXT + NOISE,
    business_email='a"onfocus=alert(1)@x.example',
    business_phone="+1<script>",
    niche="<b>",
    primary_city=HOSTILE_TEXT,
    state="--><script>",
    primary_service=HOSTILE_TEXT,
    services=[HOSTILE_TEXT, "../../etc/passwd", "..", "🦷", "Same", "Same", "same", "x" * 5000, " ", "/"],
    service_descriptions={"Same": HOSTILE_TEXT + "\n" + NOISE, "..": "<h1>no</h1>"},
    tone="<i>",
    primary_cta="javascript:alert(1)",
    cta_text=HOSTILE_TEXT,
    business_address=HOSTILE_TEXT,
    custom_niche=HOSTILE_TEXT,
    service_areas=[HOSTILE_TEXT],
    site_description=(HOSTILE_TEXT + "\n") * 100,
    primary_color="red;}</style><script>alert(1)</script>",
    secondary_color="url(https://evil.example)",
    accent_color="#12345",
    logo_url="javascript:alert(1)",
    business_hours={HOSTILE_TEXT: HOSTILE_TEXT, "monday": "<b>"},
    social={"facebook": "javascript:alert(1)", '"><script>': "https://x.example/\"'<>"},
    testimonials=[briefs.Testimonial(name=HOSTILE_TEXT, text=HOSTILE_TEXT, role=HOSTILE_TEXT)],
    google_reviews_link="data:text/html,<script>alert(1)</script>",
    about_owner=HOSTILE_TEXT,
    team_members=[TeamMember(name=HOSTILE_TEXT, role=NOISE)],
    meta_title=HOSTILE_TEXT,
    meta_description=HOSTILE_TEXT,
    target_keywords=[HOSTILE_TEXT],
    site_url="https://x.example/a&b?c=<d>#e",
)
BRIEFS = {"plumber": PLUMBER, "dentist": DENTIST, "bare": BARE, "hostile": HOSTILE}


class Built:
    """A generated site, each page parsed by a strict HTML parser: a parse error fails the test."""

    def __init__(self, brief: Brief) -> None:
        self.files = {file.path: file.content for file in checked(generate(brief))}
        self.pages = {path: self._parsed(path) for path in self.files if path.endswith(".html")}

    def _parsed(self, path):
        return html5lib.HTMLParser(strict=True).parse(self.files[path].decode())

    def text(self, path):
        return " ".join("".join(self.pages[path].find(f"{XHTML}body").itertext()).split())

    def each(self, path, tag):
        return list(self.pages[path].iter(f"{XHTML}{tag}"))

    def structured(self, path):
        return [json.loads(script.text) for script in self.each(path, "script")]

    def hrefs(self, path):
        return [link.get("href") for link in self.each(path, "a")]


def attributes(page, *names):
    for element in page.iter():
        for name in names:
            if element.get(name) is not None:
                yield element.get(name)


def assert_sound(site: Built, base: str = "") -> None:
    """Check the properties of every site."""
    assert len(site.files) >= 12
    titles = set()
    for path, page in site.pages.items():
        assert page.get("lang") in {"en", "pt-BR"}, path
        assert len(site.each(path, "h1")) == 1, path
        assert "".join(site.each(path, "h1")[0].itertext()).strip(), path
        assert len(site.each(path, "main")) == 1, path
        titles.add(site.each(path, "title")[0].text.strip())
        ids = list(attributes(page, "id"))
        assert len(ids) == len(set(ids)), path
        labelled = {name for value in attributes(page, "aria-labelledby", "for") for name in value.split()}
        assert labelled <= set(ids), path
        for image in site.each(path, "img"):
            assert image.get("alt") is not None, path
        for script in site.each(path, "script"):
            assert script.get("type") == "application/ld+json", path
        for element in page.iter():
            assert not [name for name in element.attrib if str(name).startswith("on")], path
        for link in attributes(page, "href", "src", "action"):
            assert_link_leads_somewhere(site, path, link, base)
    assert all(titles)
    for path, content in site.files.items():
        assert not re.search(
            "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff]",
            content.decode().replace("\r\n", "\n"),
        ), path
        if path.endswith((".svg", ".xml")):
            ET.fromstring(content)  # noqa: S314 - what this test made itself


def assert_link_leads_somewhere(site, path, link, base):
    parts = urlsplit(link)
    assert parts.scheme in {"", "http", "https", "mailto", "tel"}, (path, link)
    # The page for missing addresses is shown at any depth, so its links start at the site's base.
    if path == "404.html" and not link.startswith(("#", "mailto:", "tel:")) and link.startswith(f"{base}/"):
        link = link[len(base) + 1 :]
        parts = urlsplit(link)
    if parts.scheme or link.startswith("https://"):
        return
    target = urlsplit(urljoin(f"http://site/{path}", link))
    assert target.netloc == "site", (path, link)
    assert unquote(target.path).lstrip("/") in site.files, (path, link)
    if target.fragment:
        anchors = set(attributes(site.pages[target.path.lstrip("/")], "id"))
        assert target.fragment in anchors, (path, link)


@pytest.fixture(scope="module")
def built():
    return {name: Built(brief) for name, brief in BRIEFS.items()}


@pytest.mark.parametrize("name", BRIEFS)
def test_sites_are_valid_and_complete(built, name):
    bases = {"plumber": "https://hillcountry.example", "hostile": "https://x.example/a&b"}
    assert_sound(built[name], bases.get(name, ""))


typed = st.text(
    st.one_of(
        st.sampled_from("<>&\"'`=/\\{}%;:#?-\n\r\t\0\u202e\u2028\ufffe\ud800é🦷"),
        st.characters(exclude_categories=[]),
    ),
    max_size=25,
)


@st.composite
def typed_briefs(draw):
    mapping = st.dictionaries(typed, typed, max_size=2)
    return Brief(
        order_id=1,
        business_name=draw(typed),
        business_email=draw(st.one_of(typed, st.emails())),
        business_phone=draw(st.one_of(typed, st.text("+0123456789()- x", max_size=20))),
        niche=draw(st.sampled_from(["DENTIST", "OTHER", "LAWYER"])),
        primary_city=draw(typed),
        state=draw(st.one_of(st.sampled_from(["SP", "MA"]), typed)),
        primary_service=draw(typed),
        services=draw(st.lists(typed, max_size=3)),
        tone=draw(st.sampled_from(["PROFESSIONAL", "FRIENDLY", "PREMIUM"])),
        primary_cta=draw(st.sampled_from(["CALL", "WHATSAPP", "FORM", "BOOK_ONLINE"])),
        cta_text=draw(st.none() | typed),
        business_address=draw(st.none() | typed),
        service_areas=draw(st.lists(typed, max_size=2)),
        service_descriptions=draw(mapping),
        primary_color=draw(st.none() | typed),
        logo_url=draw(st.none() | typed | typed.map(lambda text: f"https://x.example/{text}")),
        business_hours=draw(mapping),
        social=draw(mapping | typed.map(lambda text: {"instagram": f"https://{text}"})),
        testimonials=draw(st.lists(st.builds(briefs.Testimonial, name=typed, text=typed, role=typed), max_size=1)),
        team_members=draw(st.lists(st.builds(TeamMember, name=typed, role=typed), max_size=1)),
        meta_title=draw(st.none() | typed),
        years_in_business=draw(st.none() | st.integers()),
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(typed_briefs())
def test_anything_typed_gives_a_sound_site(brief):
    assert_sound(Built(brief))


def test_the_same_brief_gives_the_same_bytes():
    assert list(generate(PLUMBER)) == list(generate(replace(PLUMBER)))


def test_the_pages_show_the_brief(built):
    home = built["plumber"].text("index.html")
    for text in ("Drain cleaning in Austin", "Hill Country Plumbing", "(512) 555-0142", "2411 S Lamar Blvd"):
        assert text in home
    for text in (
        "Mon \N{EN DASH} Fri",
        "7:00 am - 6:00 pm",
        "8am-2pm",
        "12 years in business",
        "Hot water by evening.",
    ):
        assert text in home
    assert "Round Rock" in built["plumber"].text("areas.html")
    assert "Ray started the company." in built["plumber"].text("about.html")
    heaters = built["plumber"].text("services/water-heaters.html")
    assert "Tank and tankless." in heaters
    assert "Repair and replacement." in heaters
    css = built["plumber"].files["assets/site.css"].decode()
    assert all(colour in css for colour in ("#0b4f9e", "#12263f", "#ff7a1a"))
    profiles = built["plumber"].hrefs("index.html")
    assert {"https://facebook.com/hillcountry", "https://www.instagram.com/hillcountry"} <= set(profiles)
    assert "https://g.page/r/abc" in profiles


def test_the_primary_service_comes_first(built):
    titles = [heading for heading in built["plumber"].each("services.html", "h2") if heading.get("class")]
    assert ["".join(title.itertext()) for title in titles[:3]] == ["Drain cleaning", "Water heaters", "Repiping"]


def test_pages_without_content_are_left_out(built):
    assert not {"testimonials.html", "areas.html"} & set(built["bare"].files)
    assert {"testimonials.html", "areas.html"} <= set(built["plumber"].files)


def test_a_service_without_description_gets_a_neutral_sentence(built):
    assert "Would you like to know more about Repiping?" in built["plumber"].text("services/repiping.html")


@pytest.mark.parametrize(
    ("cta", "changes", "label", "target"),
    [
        ("CALL", {}, "Call now", "tel:5125550142"),
        ("CALL", {"business_phone": "ask inside"}, "Send a message", "contact.html#form"),
        ("WHATSAPP", {}, "Message us on WhatsApp", "https://wa.me/15125550142"),
        ("WHATSAPP", {"business_phone": "555-0142"}, "Send a message", "contact.html#form"),
        ("WHATSAPP", {"business_phone": "+44 20 7946 0000"}, "Message us on WhatsApp", "https://wa.me/442079460000"),
        ("FORM", {}, "Send a message", "contact.html#form"),
        ("BOOK_ONLINE", {}, "Book an appointment", "contact.html#book"),
        ("CALL", {"cta_text": "Ring <us>"}, "Ring <us>", "tel:5125550142"),
    ],
)
def test_the_call_to_action(cta, changes, label, target):
    site = Built(replace(PLUMBER, primary_cta=cta, **changes))
    buttons = [link for link in site.each("index.html", "a") if "button" in (link.get("class") or "").split()]
    labels = {"".join(button.itertext()).strip(): button.get("href") for button in buttons}
    assert labels[label] == target


def test_the_contact_form_writes_an_e_mail(built):
    form = built["plumber"].each("contact.html", "form")[0]
    assert form.get("action") == "mailto:office@hillcountry.example"
    fields = {field.get("name") for field in form.iter() if field.get("name")}
    assert fields == {"subject", "body"}
    assert built["hostile"].each("contact.html", "form") == []


def test_tones_change_words_and_style():
    sites = {tone: Built(replace(PLUMBER, tone=tone)) for tone in ("PROFESSIONAL", "FRIENDLY", "PREMIUM")}
    assert len({site.text("index.html") for site in sites.values()}) == 3
    assert len({site.files["assets/site.css"] for site in sites.values()}) == 3


def test_the_site_of_a_brazilian_business_is_in_portuguese(built):
    site = built["dentist"]
    assert site.pages["index.html"].get("lang") == "pt-BR"
    home = site.text("index.html")
    assert "Implantes em Campinas" in home
    assert "Segunda a Terça" in home
    assert "08:00 às 18:00" in home
    assert "https://wa.me/5519987654321" in site.hrefs("index.html")
    assert "Opening hours" not in home


@pytest.mark.parametrize(
    ("state", "phone", "expected"),
    [
        ("SP", "", True),
        ("sp", "11 3333-4444", True),
        ("São Paulo", "", True),
        ("Sao Paulo - SP", "", True),
        ("Brasil", "", True),
        ("TX", "", False),
        ("TX", "+55 11 98765-4321", True),
        ("SP", "+39 0187 123456", False),
        ("MA", "(617) 555-0123", False),
        ("MA", "6175550123", False),
        ("MA", "(98) 98765-4321", True),
        ("SC", "48 98765-4321", True),
        ("PR", "(787) 555-0123", False),
        ("", "", False),
    ],
)
def test_is_brazilian(state, phone, expected):
    assert is_brazilian(replace(BARE, state=state, business_phone=phone)) is expected


def test_both_languages_have_the_same_texts():
    def fields(sentence):
        return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}

    assert ENGLISH.keys() == PORTUGUESE.keys()
    for key, sentence in ENGLISH.items():
        assert sentence.strip(), key
        assert PORTUGUESE[key].strip(), key
    # Only these use different values on purpose.
    differing = {key for key in ENGLISH if fields(ENGLISH[key]) != fields(PORTUGUESE[key])}
    assert differing == {"eyebrow.friendly", "hero.friendly"}


def test_every_tone_has_the_same_texts():
    tones = tuple(f".{tone}" for tone in Tone)
    stems = {key.rpartition(".")[0] for key in ENGLISH if key.endswith(tones)}
    assert {"hero", "closing_title"} <= stems
    for stem in stems:
        assert stem in ENGLISH or all(f"{stem}{tone}" in ENGLISH for tone in tones), stem


def test_templates_contain_no_untranslated_words():
    folder = resources.files("sitegenctl.worker.generator") / "templates"
    templates = [entry.read_text() for entry in folder.iterdir() if entry.name.endswith(".html")]
    keys = {key for text in templates for key in re.findall(r"""\bsay\(["']([a-z_]+)["']""", text)}
    known = set(ENGLISH) | {key.rpartition(".")[0] for key in ENGLISH}
    assert "closing_title" in keys
    assert keys <= known
    for text in templates:
        outside = re.sub(r"\{[{%#].*?[}%#]\}|<!DOCTYPE html>|<[^<>]*>", " ", text, flags=re.DOTALL)
        assert not set(re.findall(r"[A-Za-z]{3,}", outside)), "untranslated words"


def test_typed_values_are_not_format_strings():
    voice = Voice(language=Language.ENGLISH, tone=Tone.PREMIUM)
    assert voice("hero", name="{service.__class__}") == "{service.__class__}"


def test_hostile_text_is_shown_as_text(built):
    site = built["hostile"]
    assert "alert(1)</script>" in site.text("index.html")
    assert "{{ 7*7 }}" in site.text("index.html")
    data = site.structured("index.html")[0]
    assert data["name"].startswith("</script><script>alert(1)</script><img src=x onerror=alert(2)>")
    assert data["@type"] == "LocalBusiness"
    pages = b"".join(content for path, content in site.files.items() if path.endswith((".html", ".css")))
    assert b"javascript:" not in pages
    assert b"<script>" not in pages
    assert b"evil.example" not in pages


def test_structured_data_round_trips_a_hostile_name():
    name = 'Tom & Jerry\'s </script><!-- "Best" \\ <b>'
    site = Built(replace(PLUMBER, business_name=name))
    data = site.structured("index.html")[0]
    assert data["name"] == name
    assert data["@type"] == "Plumber"
    assert data["telephone"] == "(512) 555-0142"
    assert data["url"] == "https://hillcountry.example/"


@pytest.mark.parametrize(
    ("niche", "kind"),
    [("DENTIST", "Dentist"), ("LAWYER", "LegalService"), ("RESTAURANT", "Restaurant"), ("OTHER", "LocalBusiness")],
)
def test_structured_data_has_the_type_of_business(niche, kind):
    assert Built(replace(PLUMBER, niche=niche)).structured("index.html")[0]["@type"] == kind


@pytest.mark.parametrize("name", BRIEFS)
def test_the_sitemap_lists_every_page_except_404(built, name):
    bases = {"plumber": "https://hillcountry.example", "hostile": "https://x.example/a&b"}
    base = bases.get(name, "")
    sitemap = ET.fromstring(built[name].files["sitemap.xml"])  # noqa: S314 - what this test made itself
    listed = [entry.text for entry in sitemap.iter(f"{SITEMAP}loc")]
    pages = {path for path in built[name].pages if path != "404.html"}
    assert len(listed) == len(pages)
    assert {posixpath.join(base, entry.removeprefix(f"{base}/") or "index.html") for entry in listed} == {
        posixpath.join(base, page) for page in pages
    }


def test_robots_contains_the_sitemap_if_the_address_is_known(built):
    assert "Sitemap: https://hillcountry.example/sitemap.xml\n" in built["plumber"].files["robots.txt"].decode()
    assert built["bare"].files["robots.txt"].decode() == "User-agent: *\nAllow: /\n"


def test_canonical_addresses(built):
    def canonical(site, path):
        return [link.get("href") for link in site.each(path, "link") if link.get("rel") == "canonical"]

    assert canonical(built["plumber"], "about.html") == ["https://hillcountry.example/about.html"]
    assert canonical(built["plumber"], "index.html") == ["https://hillcountry.example/"]
    assert canonical(built["dentist"], "index.html") == []
    assert canonical(built["plumber"], "404.html") == []


def test_the_404_page_works_at_any_depth(built):
    for name, base in (("plumber", "https://hillcountry.example/"), ("dentist", "/")):
        site = built[name]
        pages = [link for link in site.hrefs("404.html") if link.endswith(".html")]
        assert f"{base}index.html" in pages
        assert all(link.startswith(base) for link in pages)
        style = "".join(element.text for element in site.each("404.html", "style"))
        assert style.split() == site.files["assets/site.css"].decode().split()


def test_nothing_is_loaded_from_other_hosts(built):
    for site in built.values():
        for path, page in site.pages.items():
            loaded = [link.get("href") for link in site.each(path, "link") if link.get("rel") != "canonical"]
            base = "https://hillcountry.example/" if site is built["plumber"] else "https://x.example/a&b/"
            for address in [*loaded, *attributes(page, "src")]:
                assert not urlsplit(address).netloc or (path == "404.html" and address.startswith(base))
        assert b"url(" not in site.files["assets/site.css"]
        assert b"@import" not in site.files["assets/site.css"]


def test_a_logo_has_the_name_as_its_alternative_text():
    site = Built(replace(PLUMBER, logo_url="https://cdn.example/logo.png?a=1&b=2"))
    logo = site.each("index.html", "img")[0]
    assert (logo.get("src"), logo.get("alt")) == ("https://cdn.example/logo.png?a=1&b=2", "Hill Country Plumbing")


def test_hundreds_of_services_are_listed_and_some_get_pages():
    names = [f"Service number {number}" for number in range(300)]
    files = {file.path: file.content.decode() for file in generate(replace(PLUMBER, services=names))}
    assert sum(path.startswith("services/") for path in files) == MAX_SERVICE_PAGES
    assert all(f">{name}<" in files["services.html"] for name in names)


def test_the_contact_card_folds_and_escapes():
    name = "Ünï; cödé, " * 20
    files = {file.path: file.content for file in generate(replace(PLUMBER, business_name=name + "\nNOTE:x"))}
    lines = files["contact.vcf"].split(b"\r\n")
    assert all(len(line) <= 75 for line in lines)
    unfolded = files["contact.vcf"].decode().replace("\r\n ", "").split("\r\n")
    assert unfolded[:2] == ["BEGIN:VCARD", "VERSION:3.0"]
    assert unfolded[2].startswith("FN:Ünï\\; cödé\\, Ünï")
    assert not [line for line in unfolded if line.startswith("NOTE")]
    assert "TEL;TYPE=WORK,VOICE:5125550142" in unfolded


@given(st.lists(typed | st.sampled_from(["Same", "same", "same-2", "a" * 200, "..", "🦷", "ação"]), max_size=12))
def test_slugs_are_safe_and_all_different(names):
    made = slugs(names, "service")
    assert len(set(made)) == len(names)
    for slug in made:
        assert re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", slug)
        assert len(slug) <= MAX_SLUG


def test_slugs_are_readable():
    assert slugs(["Ação rápida", "🦷", "A/B", "a b"], "service") == ["acao-rapida", "service-2", "a-b", "a-b-2"]


@pytest.mark.parametrize(
    ("typed_address", "expected"),
    [
        ("https://x.example/ç?a=1&b=%20", "https://x.example/%C3%A7?a=1&b=%20"),
        ("HTTP://X.example", "HTTP://X.example"),
        ("x.example/page", "https://x.example/page"),
        ("https://x.example:8080/", "https://x.example:8080/"),
        ("javascript:alert(1)", None),
        ("JaVaScRiPt://x.example/%0aalert(1)", None),
        ("java\tscript:alert(1)", None),
        ("data:text/html,x", None),
        ("//x.example", None),
        ("https:///path", None),
        ("https://user:pass@x.example", None),
        ("https://x.example\\@evil.example", None),
        ("https://x.example/a b", None),
        ("https://x\u202e.example", None),
        ("https://[::1", None),
        ("https://x.example:port", None),
        ("https://x.example/" + "a" * 3000, None),
        (None, None),
    ],
)
def test_web_addresses(typed_address, expected):
    assert web_address(typed_address) == expected


@pytest.mark.parametrize(
    ("typed_phone", "expected"),
    [
        ("(512) 555-0142", "5125550142"),
        ("+55 (19) 98765-4321", "+5519987654321"),
        ("512.555.0142 ext. 12", "5125550142"),
        ("512 555 0142 x12", "5125550142"),
        ("555-1234 / 555-9999", "5551234"),
        ("1-800-FLOWERS", None),
        ("call me", None),
        ("12", None),
        ("1" * 16, None),
        (" " * 100_000 + "x", None),
    ],
)
def test_phone_numbers(typed_phone, expected):
    assert phone_digits(typed_phone) == expected


def test_mail_links():
    assert mail_link(" a.b+c@x.example ") == "mailto:a.b+c@x.example"
    assert mail_link("a?cc=b@x.example") == "mailto:a%3Fcc%3Db@x.example"
    for nonsense in ("a@b@c", "a b@x.example", "a@x.example\nBcc: b@y.example", '"<@x.example', "", None):
        assert mail_link(nonsense) is None


def test_hours_are_sorted_and_grouped():
    week = opening_hours(
        {"holidays": "ask", "Tue": "9:00-17:00", "sáb. a dom.": "Fechado", "monday": "9:00-17:00", "Quarta": "9-5"}
    )
    assert [(line.days, line.typed_hours) for line in week] == [
        ((0, 1), "9:00-17:00"),
        ((2,), "9-5"),
        ((5, 6), "Fechado"),
        ((), "ask"),
    ]
    assert week[-1].typed_day == "holidays"
