"""What the invented businesses are drawn from: places, people and trades of Brazil and the United States.

Data only; ``businesses.py`` draws from it. Nothing here can reach a real person: American numbers are of the
555-01xx range kept for fiction, Brazilian ones have a prefix that is not assigned, and every address on the
net is under a name reserved for examples.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class City:
    """A city with its state's abbreviation, a telephone area code and some of its quarters."""

    name: str
    state: str
    area_code: str
    areas: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Trade:
    """A trade as practised in one country; ``{surname}``, ``{owner}`` and ``{city}`` are filled in."""

    niche: str
    custom_niche: str | None = None
    names: tuple[str, ...]
    services: tuple[tuple[str, str], ...]
    description: str
    about: str
    praise: tuple[str, ...]
    palette: tuple[str, str, str]
    tone: str
    cta: str


@dataclass(frozen=True, kw_only=True)
class Country:
    """What all businesses of one country have in common."""

    code: str
    currency: str
    prices: tuple[float, ...]
    given_names: tuple[str, ...]
    surnames: tuple[str, ...]
    cities: tuple[City, ...]
    streets: tuple[str, ...]
    hours: tuple[dict[str, str], ...]
    roles: tuple[str, ...]
    customer: str
    calls_to_action: dict[str, str]
    objective: str
    mail_box: str
    trades: tuple[Trade, ...]


_BRAZIL_DAYS = ("Segunda-feira", "Terça-feira", "Quarta-feira", "Quinta-feira", "Sexta-feira")
_US_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")

BRAZIL = Country(
    code="BR",
    currency="BRL",
    prices=(997.0, 1497.0, 1997.0),
    given_names=(
        "Ana Lúcia",
        "João",
        "Conceição",
        "Thaís",
        "Antônio",
        "Márcia",
        "Luís Otávio",
        "Débora",
        "Caio",
        "Inês",
        "Sebastião",
        "Renata",
    ),
    surnames=(
        "Assunção",
        "Magalhães",
        "Sant'Ana",
        "Brandão",
        "Figueirêdo",
        "Araújo",
        "D'Ávila",
        "Guimarães",
        "Nóbrega",
        "Teixeira",
        "Peçanha",
        "Simões",
    ),
    cities=(
        City(name="São Paulo", state="SP", area_code="11", areas=("Vila Mariana", "Pinheiros", "Tatuapé")),
        City(name="Belo Horizonte", state="MG", area_code="31", areas=("Savassi", "Pampulha", "Floresta")),
        City(name="Florianópolis", state="SC", area_code="48", areas=("Trindade", "Lagoa", "Córrego Grande")),
        City(name="Salvador", state="BA", area_code="71", areas=("Rio Vermelho", "Graça", "Itapuã")),
        City(name="Goiânia", state="GO", area_code="62", areas=("Setor Bueno", "Jardim Goiás", "Marista")),
        City(name="Curitiba", state="PR", area_code="41", areas=("Batel", "Água Verde", "Juvevê")),
    ),
    streets=("Rua das Palmeiras", "Avenida Ipê-Roxo", "Rua São João", "Travessa da Estação", "Rua Açucena"),
    hours=(
        {**dict.fromkeys(_BRAZIL_DAYS, "8h às 18h"), "Sábado": "8h às 12h", "Domingo": "Fechado"},
        {**dict.fromkeys(_BRAZIL_DAYS, "9h às 19h"), "Sábado": "9h às 14h", "Domingo": "Fechado"},
        {**dict.fromkeys(_BRAZIL_DAYS, "11h às 23h"), "Sábado": "11h à 0h", "Domingo": "11h às 17h"},
    ),
    roles=("Atendimento", "Gerente", "Sócia"),
    customer="Cliente",
    calls_to_action={
        "CALL": "Ligue agora",
        "WHATSAPP": "Fale conosco no WhatsApp",
        "FORM": "Peça um orçamento",
        "BOOK_ONLINE": "Agende seu horário",
    },
    objective="Receber mais pedidos de orçamento da região",
    mail_box="contato",
    trades=(
        Trade(
            niche="RESTAURANT",
            names=("Cantina {surname}", "Sabor & Prosa", "Botequim do {surname}", 'Zé do Chopp "O Original"'),
            services=(
                ("Almoço executivo", "Prato do dia, salada e sobremesa, servidos em até quinze minutos."),
                ("Feijoada aos sábados", "Completa, com couve, laranja e torresmo, à vontade até as 16h."),
                ("Encomendas", "Marmitas, tortas e travessas para reuniões e festas."),
            ),
            description="Comida de verdade, feita na hora, no coração de {city}.",
            about="{owner} aprendeu a cozinhar com a avó e abriu as portas com seis mesas e um fogão a lenha.",
            praise=("A melhor feijoada da cidade!", "Atendimento que faz a gente voltar."),
            palette=("#7b2d26", "#f0c987", "#19535f"),
            tone="FRIENDLY",
            cta="WHATSAPP",
        ),
        Trade(
            niche="DENTIST",
            names=("Clínica Odontológica {surname}", "Sorriso & Saúde", "Odonto {city}"),
            services=(
                ("Limpeza e prevenção", "Profilaxia completa e orientação para toda a família."),
                ("Clareamento", "Clareamento supervisionado, com resultado já na primeira sessão."),
                ("Implantes", "Planejamento digital e acompanhamento do começo ao fim."),
                ("Odontopediatria", "Consultas sem medo para os pequenos."),
            ),
            description="Odontologia cuidadosa e sem pressa, perto de você em {city}.",
            about="{owner} atende há anos as mesmas famílias e conhece cada uma pelo nome.",
            praise=("Perdi o medo de dentista aqui.", "Explicam tudo antes de começar."),
            palette=("#0b6e8f", "#dff3f7", "#f2a541"),
            tone="PROFESSIONAL",
            cta="BOOK_ONLINE",
        ),
        Trade(
            niche="LAWYER",
            names=("{surname} & Associados Advocacia", "Advocacia {surname}", "{surname}, Simões & Filhos"),
            services=(
                ("Direito trabalhista", "Defesa de trabalhadores e de pequenas empresas."),
                ("Direito de família", "Divórcio, guarda e inventário com discrição."),
                ("Contratos", "Revisão e redação em linguagem que se entende."),
            ),
            description="Escritório de advocacia em {city} com atendimento direto, sem intermediários.",
            about="{owner} fundou o escritório para que ninguém assinasse o que não compreende.",
            praise=("Resolveram em um mês o que se arrastava há anos.", "Clareza do início ao fim."),
            palette=("#1f2a44", "#c9a227", "#f5f1e6"),
            tone="PREMIUM",
            cta="CALL",
        ),
        Trade(
            niche="ELECTRICIAN",
            names=("Elétrica {surname}", "Luz & Força Instalações", "Eletricista {surname} 24 Horas"),
            services=(
                ("Quadros e disjuntores", "Troca e adequação às normas, com laudo."),
                ("Emergências", "Atendimento a qualquer hora, em toda a região de {city}."),
                ("Automação residencial", "Iluminação e tomadas inteligentes, sem quebra-quebra."),
            ),
            description="Instalações elétricas seguras para casas e comércios de {city}.",
            about="{owner} é técnico formado e só usa material certificado.",
            praise=("Chegou em meia hora num domingo.", "Deixou tudo limpo e etiquetado."),
            palette=("#ffb703", "#023047", "#fb8500"),
            tone="FRIENDLY",
            cta="CALL",
        ),
        Trade(
            niche="CLEANING",
            names=("Brilho d'Água Limpeza", "Limpa & Leve", "Casa {surname} Limpeza"),
            services=(
                ("Limpeza residencial", "Equipe fixa, semanal ou quinzenal."),
                ("Pós-obra", "Remoção de tinta, pó e resíduos antes da mudança."),
                ("Escritórios", "Fora do expediente, com produtos sem cheiro forte."),
            ),
            description="Limpeza profissional para quem quer o fim de semana de volta, em {city}.",
            about="{owner} começou sozinha e hoje coordena uma equipe de nove pessoas.",
            praise=("Minha casa nunca brilhou tanto.", "Pontuais e de total confiança."),
            palette=("#2a9d8f", "#e9f5f3", "#e76f51"),
            tone="FRIENDLY",
            cta="WHATSAPP",
        ),
        Trade(
            niche="OTHER",
            custom_niche="Pet shop e banho e tosa",
            names=("Patinhas do {surname}", "Au-Au & Cia.", "Pet Ipê"),
            services=(
                ("Banho e tosa", "Com secagem silenciosa e produtos hipoalergênicos."),
                ("Creche", "Um dia inteiro de brincadeiras, com fotos para o tutor."),
                ("Leva e traz", "Buscamos e entregamos em toda {city}."),
            ),
            description="O cuidado que o seu melhor amigo merece, em {city}.",
            about="{owner} divide a casa com três vira-latas e um papagaio que canta o hino.",
            praise=("O Bidu adora ir para lá!", "Nota dez, com muito carinho."),
            palette=("#6a4c93", "#ffca3a", "#8ac926"),
            tone="FRIENDLY",
            cta="WHATSAPP",
        ),
    ),
)

UNITED_STATES = Country(
    code="US",
    currency="USD",
    prices=(399.0, 599.0, 899.0),
    given_names=(
        "Maureen",
        "Desmond",
        "Renée",
        "Walter",
        "Priya",
        "Hank",
        "Zoë",
        "Marcus",
        "Guadalupe",
        "Earl",
        "Nadia",
        "José",
    ),
    surnames=(
        "O'Brien",
        "Whitaker",
        "Kowalski",
        "D'Angelo",
        "Nuñez",
        "Abernathy",
        "Okafor",
        "Lindqvist",
        "Haverford",
        "McAllister",
        "Tran",
        "Delacroix",
    ),
    cities=(
        City(name="Orlando", state="FL", area_code="407", areas=("College Park", "Lake Nona", "Winter Park")),
        City(name="Austin", state="TX", area_code="512", areas=("Hyde Park", "Zilker", "Round Rock")),
        City(name="Newark", state="NJ", area_code="973", areas=("Ironbound", "Forest Hill", "Belleville")),
        City(name="Boise", state="ID", area_code="208", areas=("North End", "Eagle", "Meridian")),
        City(name="Charlotte", state="NC", area_code="704", areas=("NoDa", "Dilworth", "Matthews")),
        City(name="Worcester", state="MA", area_code="508", areas=("Shrewsbury", "Auburn", "Holden")),
    ),
    streets=("Maple Street", "Old Mill Road", "Juniper Avenue", "St. Clair Court", "Harbor Lane"),
    hours=(
        {**dict.fromkeys(_US_DAYS, "8:00 AM - 6:00 PM"), "Saturday": "9:00 AM - 1:00 PM", "Sunday": "Closed"},
        {**dict.fromkeys(_US_DAYS, "9:00 AM - 5:00 PM"), "Saturday": "Closed", "Sunday": "Closed"},
        {**dict.fromkeys(_US_DAYS, "Open 24 hours"), "Saturday": "Open 24 hours", "Sunday": "Open 24 hours"},
    ),
    roles=("Office manager", "Lead technician", "Co-owner"),
    customer="Customer",
    calls_to_action={
        "CALL": "Call us today",
        "WHATSAPP": "Message us on WhatsApp",
        "FORM": "Get a free quote",
        "BOOK_ONLINE": "Book online",
    },
    objective="Get more calls from the neighborhoods nearby",
    mail_box="hello",
    trades=(
        Trade(
            niche="PLUMBER",
            names=("{surname} & Sons Plumbing", "{city} Rooter Co.", "{surname} Pipe & Drain"),
            services=(
                ("Emergency repairs", "A licensed plumber at your door, day or night."),
                ("Drain cleaning", "Camera inspection first, so that you pay only for what is needed."),
                ("Water heaters", "Tank and tankless, installed and hauled away the same day."),
                ("Bathroom remodels", "From rough-in to the last bead of caulk."),
            ),
            description="Honest plumbing for homes and small businesses in {city}.",
            about="{owner} has been crawling under sinks since high school and still answers the phone.",
            praise=("Fixed in an hour what two others couldn't.", "Fair price & spotless work."),
            palette=("#005f73", "#e9d8a6", "#ca6702"),
            tone="FRIENDLY",
            cta="CALL",
        ),
        Trade(
            niche="LANDSCAPING",
            names=("{surname} Lawn & Garden", "Green Acre {city}", "{surname} Landscape Design"),
            services=(
                ("Lawn care", "Weekly mowing, edging and a yard that is ready for the weekend."),
                ("Garden design", "Native plants that thrive on the rain you get."),
                ("Patios & walkways", "Stone and brick, laid to stay level."),
            ),
            description="Yards worth coming home to, all over {city}.",
            about="{owner} started with one mower and the neighbor's lawn.",
            praise=("Our block talks about nothing else.", "On time, every single week."),
            palette=("#386641", "#f2e8cf", "#bc4749"),
            tone="FRIENDLY",
            cta="FORM",
        ),
        Trade(
            niche="REAL_ESTATE",
            names=("{surname} Realty Group", "Hearth & Key {city}", "The {surname} Team"),
            services=(
                ("Selling", "Staging, photography and a price backed by data."),
                ("Buying", "Tours on your schedule and someone who reads the disclosures."),
                ("Relocation", "Schools, commutes and a short list before you land."),
            ),
            description="A small brokerage that knows every street of {city}.",
            about="{owner} sold a first house at twenty-two and has never wanted another job.",
            praise=("Sold in nine days, over asking.", "Patient with first-time buyers."),
            palette=("#22223b", "#c9ada7", "#9a8c98"),
            tone="PREMIUM",
            cta="BOOK_ONLINE",
        ),
        Trade(
            niche="ELECTRICIAN",
            names=("{surname} Electric", "Bright Side Electric of {city}", "Ohm's Law Electrical"),
            services=(
                ("Panel upgrades", "Permits, inspection and power back on by supper."),
                ("EV chargers", "Level 2 chargers installed in an afternoon."),
                ("Lighting", "Indoors, outdoors and everything on dimmers."),
            ),
            description="Licensed electricians for {city} and the towns around it.",
            about="{owner} is a master electrician and teaches the evening class at the trade school.",
            praise=("Explained every line of the estimate.", "Neat wiring, neat people."),
            palette=("#fca311", "#14213d", "#e5e5e5"),
            tone="PROFESSIONAL",
            cta="FORM",
        ),
        Trade(
            niche="GENERAL",
            names=('The "Right Angle" Tile & Stone', "{surname} Home Repair", "{surname} Brothers Contracting"),
            services=(
                ("Tile work", "Kitchens, showers and floors without a crooked line."),
                ("Decks", "Cedar or composite, built to code."),
                ("Small repairs", "The list on your fridge, done in a day."),
            ),
            description="Repairs and remodels in {city}, done once and done right.",
            about="{owner} measures twice, on principle.",
            praise=("They came back to fix a thing I hadn't noticed.", "Straight lines & straight talk."),
            palette=("#6b705c", "#ffe8d6", "#cb997e"),
            tone="PROFESSIONAL",
            cta="FORM",
        ),
        Trade(
            niche="OTHER",
            custom_niche="Music school",
            names=("{surname} School of Music", "Half Note Studio", "Treble & Bass {city}"),
            services=(
                ("Piano lessons", "For ages five to ninety-five."),
                ("Guitar lessons", "Acoustic, electric and the songs that you came for."),
                ("Summer band camp", "Two weeks, one concert, many friends."),
            ),
            description="Music lessons for all ages in {city}.",
            about="{owner} toured for ten years and came home to teach.",
            praise=("My son practices without being told!", "Learned more here in a year than in four."),
            palette=("#3d348b", "#f7b801", "#f35b04"),
            tone="FRIENDLY",
            cta="BOOK_ONLINE",
        ),
    ),
)

COUNTRIES = (BRAZIL, UNITED_STATES)
