"""Words, names and numbers for made-up receipts, forms and letters; nothing real is meant."""

import random
import string


def _words(text: str) -> list[str]:
    return text.split()


def _phrases(text: str) -> list[str]:
    return [phrase.strip() for phrase in text.split("|")]


NAMES = _words(
    """
    Anders Becker Castillo Dumont Eriksen Fontaine Grant Hughes Ivanov Jensen Keller Lim Moreau
    Novak Okafor Petersen Quinn Rahman Santos Tan Ueda Vargas Wong Yilmaz Zimmer Abbott Bishop
    Carver Dalton Ellis Foster Gordon Harper Irving Jarvis Kemp Lowell Mercer Norton Osborne
    """
)
FIRST_NAMES = _words(
    """
    Alice Bruno Carla David Elena Felix Grace Henry Irene Jonas Karen Liam Maria Noah Olivia
    Paul Quentin Rosa Simon Teresa Umar Vera Walter Xenia Yusuf Zoe Arthur Beatrice Clement
    Doris
    """
)
STREETS = _words(
    """
    Main Oak River Station Market Church Harbour Garden Mill Castle Bridge King Queen Park Lake
    Hill North South Victoria Jalan_Besar Taman_Sri Lorong_Utara Meadow Orchard Chapel Forge
    """
)
TOWNS = _words(
    """
    Ashford Brookfield Carlton Dunmore Eastgate Fairview Glenwood Hartley Kingsbridge Linden
    Marston Newbury Oakham Preston Redhill Stanton Thornbury Upton Walden Johor_Bahru Ipoh Klang
    """
)
TRADES = _words(
    """
    Trading Hardware Stationery Restaurant Bakery Pharmacy Electrical Motors Books Textiles
    Foods Supermarket Cafe Seafood Furniture Plastics Printing Services Enterprise Gifts Optical
    Paints
    """
)
SUFFIXES = ("Ltd", "Inc.", "SDN BHD", "& Sons", "& Co.", "GmbH", "LLC", "Corp.", "(M) SDN BHD", "")
GOODS = _words(
    """
    apple juice bread butter candle cement cheese chicken coffee cable copper cotton curry dowel
    drill eggs envelope fan filter fish flour folder garlic glove glue hammer hinge honey iced
    ink kettle kiwi lamp latte lemon lock marker milk mirror mop nail noodle oil onion orange
    paint paper pasta pen pepper pipe plate plug pork rice rope rubber ruler salad salt sauce
    saw screw shampoo soap socket soup spoon stapler steel sugar tape tea tile tissue tofu
    tomato towel tube valve vinegar washer water wire wood wrench yogurt
    """
)
GRADES = _words(
    """
    white black red blue green large small mini fresh frozen A4 10mm 1L 500g 2kg XL hot iced
    whole sliced dried heavy-duty PVC LED no.5 3/4 12V 20pcs extra original
    """
)
NOUNS = _words(
    """
    account address agreement amount analysis application approval area article budget building
    business campaign carrier case change charge city claim code committee company condition
    consumer contact contract copy cost country date decision delivery department design detail
    difference distribution division document effect employee engine equipment evidence example
    experiment facility factor field figure filter flow form group growth index information
    interest invoice issue item laboratory letter level limit list machine manager market
    material matter measure meeting member method model month number office operation option
    order panel paper part payment period permit person plan plant point policy position
    practice pressure price problem procedure process product program project promotion purchase
    quality quantity question range rate reason record region report request research response
    result review role rule sample schedule section series service shipment signature site
    source staff standard statement station status storage study subject summary supply survey
    system table target task temperature term test time title total trade training transfer
    treatment trial type unit use value vehicle version volume warehouse week weight work year
    zone
    """
)
VERBS = _words(
    """
    accept add allow approve arrange ask attach begin buy call carry check collect compare
    complete confirm consider contain continue copy cover create cut deliver describe design
    determine discuss enclose examine expect explain fill find follow give handle help improve
    include increase indicate inspect install keep leave limit list maintain make mark measure
    meet mention need note obtain offer open order pay perform place plan prepare present print
    produce provide read receive record reduce refer remove replace report request require
    return review ship show sign start state stop submit suggest supply support take test
    transfer use
    """
)
ADJECTIVES = _words(
    """
    additional annual available average basic big clear common complete current daily direct
    early easy effective final first free full general good great heavy high important initial
    international large last late legal light local long low main major medical monthly national
    new next normal old open original other past physical possible present previous primary
    private proper public quick ready real recent regular right safe second separate serious
    short similar simple single small special standard strong technical total usual various warm
    """
)
LABELS = _phrases(
    """
    Name|Address|City|State|Zip Code|Telephone|Fax|Date|Department|Title|Company|Brand|
    Project No.|Account|Amount|Quantity|Description|Comments|Remarks|Subject|To|From|cc|
    Reference|Type of Product|Region|Division|Supervisor|Approved By|Date Required|Sample No.|
    Study Title|Sponsor|Start Date|End Date|Total Cost|Budget Code|Purchase Order|Ship To|
    Bill To|Contact|E-mail|Date of Birth|Sex|Marital Status|Occupation|Employer|Policy No.|
    License No.|Signature|Witness|Number of Pages|Reason for Request|Instructions|Method|
    Objective|Results|Priority|Status|Manufacturer|Market|Circulation|Coupon Value|
    Expiration Date|Carton Size|Weight|Unit Price
    """
)
MONTHS = _words("Jan Feb Mar Apr May June July Aug Sept Oct Nov Dec")
JAPANESE = (
    "本製品は室内でのみ使用してください。",
    "電源を切ってから点検を行ってください。",
    "請求書の支払期限は毎月末日とします。",
    "会議の資料は事前に配布します。",
    "申請書に必要事項を記入して提出してください。",
    "保証期間は購入日から一年間です。",
    "温度と湿度を一時間ごとに記録しました。",
    "平成二十年四月一日から施行する。",
    "詳細については担当者までお問い合わせください。",
    "部品の交換には専用の工具が必要です。",
    "東京都中央区の倉庫から出荷されます。",
    "結果は下の表に示すとおりである。",
    "利用者の安全を第一に考えて設計されています。",
    "合計金額には消費税が含まれています。",
    "フィルターは三か月ごとに清掃してください。",
    "お買い上げありがとうございました。",
    "調査の対象は全国の市町村である。",
    "エラーが表示されたときは再起動してください。",
)
KOREAN = (
    "이 제품은 실내에서만 사용하십시오.",
    "점검하기 전에 전원을 끄십시오.",
    "청구서의 지급 기한은 매월 말일입니다.",
    "회의 자료는 미리 배포합니다.",
    "신청서에 필요한 사항을 적어 제출하십시오.",
    "보증 기간은 구입일로부터 일 년입니다.",
    "온도와 습도를 한 시간마다 기록하였다.",
    "자세한 내용은 담당자에게 문의하십시오.",
    "부품을 교환하려면 전용 공구가 필요합니다.",
    "합계 금액에는 부가세가 포함되어 있습니다.",
    "결과는 아래의 표와 같다.",
    "이용해 주셔서 감사합니다.",
    "오류가 표시되면 다시 시작하십시오.",
    "조사 대상은 전국의 시와 군이다.",
)


def person(rng: random.Random) -> str:
    first, last = rng.choice(FIRST_NAMES), rng.choice(NAMES)
    return rng.choice((f"{first} {last}", f"{first[0]}. {last}", f"{last}, {first}"))


def company(rng: random.Random) -> str:
    owner = rng.choice((rng.choice(NAMES), f"{rng.choice(NAMES)} & {rng.choice(NAMES)}"))
    return f"{owner} {rng.choice(TRADES)} {rng.choice(SUFFIXES)}".strip()


def address(rng: random.Random) -> tuple[str, str]:
    street = f"{rng.choice(STREETS).replace('_', ' ')} {rng.choice(('Street', 'Road', 'Ave.'))}"
    town = rng.choice(TOWNS).replace("_", " ")
    return f"{rng.randint(1, 999)} {street}", f"{digits(rng, 5)} {town}"


def digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(count))


def code(rng: random.Random) -> str:
    letters = "".join(rng.choice(string.ascii_uppercase) for _ in range(rng.randint(0, 3)))
    return letters + rng.choice(("", "-", "/")) * bool(letters) + digits(rng, rng.randint(3, 9))


def date(rng: random.Random) -> str:
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1975, 2024)
    name = MONTHS[month - 1]
    return rng.choice(
        (
            f"{day:02}/{month:02}/{year}",
            f"{month}/{day}/{year % 100:02}",
            f"{year}-{month:02}-{day:02}",
            f"{name} {day}, {year}",
            f"{day} {name} {year}",
        )
    )


def phone(rng: random.Random) -> str:
    return rng.choice(
        (
            f"({digits(rng, 3)}) {digits(rng, 3)}-{digits(rng, 4)}",
            f"0{digits(rng, 1)}-{digits(rng, 7)}",
            f"+{digits(rng, 2)} {digits(rng, 3)} {digits(rng, 6)}",
        )
    )


def money(rng: random.Random, most: float = 300) -> str:
    value = min(most, rng.lognormvariate(2.2, 1.1))
    return rng.choice(("{:.2f}", "{:.2f}", "{:,.2f}", "${:.2f}")).format(value)


def goods(rng: random.Random) -> str:
    words = [rng.choice(GOODS), rng.choice(GRADES)]
    if rng.random() < 0.4:
        words.insert(0, rng.choice(ADJECTIVES + GOODS))
    return " ".join(words).title()


def phrase(rng: random.Random) -> str:
    return f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"


def sentence(rng: random.Random) -> str:
    words = [rng.choice(("The", "This", "Each", "Our", "Your", "A", "Every", "No")), phrase(rng)]
    words += [rng.choice(("will", "may", "must", "can", "should", "did not")), rng.choice(VERBS)]
    words += [rng.choice(("the", "a", "any", "our", "its")), phrase(rng)]
    for _ in range(rng.randint(0, 2)):
        words += [rng.choice(("of", "for", "with", "in", "by", "and", "to", "from")), "the"]
        words.append(rng.choice(NOUNS))
    if rng.random() < 0.3:
        words += [rng.choice(("on", "before", "after", "since")), date(rng)]
    if rng.random() < 0.2:
        words.append(f"({code(rng)})")
    return " ".join(words) + rng.choice((".", ".", ".", ";", "?"))


def paragraph(rng: random.Random, least: int = 2, most: int = 6) -> str:
    return " ".join(sentence(rng) for _ in range(rng.randint(least, most)))


def eastern(rng: random.Random, language: str) -> str:
    pool, space = (JAPANESE, "") if language == "ja" else (KOREAN, " ")
    return space.join(rng.choice(pool) for _ in range(rng.randint(1, 4)))


def value_for(label: str, rng: random.Random) -> str:
    """Something that a person would write behind a label."""
    low = label.lower()
    if "date" in low:
        return date(rng)
    if any(word in low for word in ("name", "to", "from", "by", "supervisor", "contact", "cc")):
        return person(rng)
    if any(word in low for word in ("no.", "code", "account", "order", "reference")):
        return code(rng)
    if any(word in low for word in ("tele", "fax")):
        return phone(rng)
    if "address" in low or "city" in low:
        return rng.choice(address(rng))
    if any(word in low for word in ("cost", "amount", "price", "value")):
        return money(rng, 90_000)
    if any(word in low for word in ("quantity", "number", "size", "weight", "circulation")):
        return digits(rng, rng.randint(1, 6))
    if "company" in low or "employer" in low or "manufacturer" in low or "sponsor" in low:
        return company(rng)
    return rng.choice((phrase(rng).title(), phrase(rng), code(rng), rng.choice(NOUNS).upper()))
