"""The sample data: generated messages of customers with noise, labelled with their intents or with the entities in them.

A message is an opening, a request and a closing, drawn from lists. Entities are composed of parts, so that the test has entities that
are not in training. Some messages fit two intents, so that no model can reach an accuracy of 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from usecases.nlp.sources import Item, Source, Span, Task

MESSAGES = 1500
CHINESE = 0.4  # share of the messages
CONTEXT = 0.45  # share of the messages with a part that fits any intent
UNCLEAR = 0.1  # share of the messages that fit two intents
TYPO, LOWER = 0.25, 0.25  # shares of the English messages


def _words(listed: str) -> list[str]:
    """A list of words that are separated by spaces; a space within a word is written as an underscore."""
    return [word.replace("_", " ") for word in listed.split()]


FIRST = _words(
    "Anna Ben Carla David Ella Farid Grace Hugo Ines Jordan Karim Lena Milan Nora Austin Paris Quinn Rosa Samir Tara Victor Wendy Florence"
)
LAST = _words(
    "Abel Brook Castillo Dunn Ekwueme Fischer Green Holm Ivanov Jansen Kowalski Lopez May Novak Okafor Park Reyes Stone Tanaka London"
)
CITIES = _words(
    "Lisbon Turin Graz Porto Utrecht Leeds Ghent Malmö Kraków Split Bergen Austin Paris Florence London Lima Quito Nairobi Accra Osaka Busan Perth New_York San_José Cape_Town St._Gallen"
)
MAKES = _words("Luna Vento Kappa Orbit Brio Sorel Nimbus May Delta Terra")
THINGS = _words("lamp kettle backpack headset bike tent camera printer watch")
MONTHS = _words("January March April May June August October December")
DAYS = _words("yesterday tomorrow last_Friday Monday next_Tuesday this_weekend Christmas_Eve")
SURNAMES, GIVEN = "王李张刘陈杨赵黄周吴徐孙马朱胡", "伟芳娜敏静磊洋艳杰涛明超霞平刚玲桂文辉宁"
CITIES_ZH = _words("北京 上海 广州 深圳 杭州 成都 武汉 西安 南京 苏州 青岛 大连 厦门 昆明 长沙 宁波 马鞍山 呼和浩特")
MAKES_ZH, THINGS_ZH = _words("星云 微风 青山 小鹿 远航 白桦 蓝湾"), _words("台灯 水壶 背包 耳机 单车 帐篷 相机 打印机 手表")
DAYS_ZH = _words("昨天 明天 上周五 周一 下周二 这个周末 元旦 春节前")

REQUESTS = {
    "refund": (
        "I want my money back for the {PRODUCT}", "please refund the {PRODUCT} I bought on {DATE}", "when will the refund for my {PRODUCT} arrive",
        "you charged me twice for the {PRODUCT} on {DATE}", "{PERSON} promised a refund on {DATE} and nothing came", "the {PRODUCT} is broken, return the payment",
        "I sent the {PRODUCT} back to {CITY} and am still waiting for the amount", "reimburse me, {PERSON} in {CITY} agreed to it", "how do I get back what I paid",
    ),
    "delivery": (
        "where is my {PRODUCT}", "the parcel to {CITY} has not arrived", "the courier left the {PRODUCT} with {PERSON}, I never got it", "it was to be here on {DATE}",
        "tracking says {CITY} since {DATE}", "can you ship the {PRODUCT} to {CITY} before {DATE}", "my order is stuck in {CITY}", "how long does it take to send a {PRODUCT} to {CITY}",
        "the box for {PERSON} came empty",
    ),
    "login": (
        "I cannot sign in", "the password reset mail never comes", "my account is locked since {DATE}", "the code you send is not accepted", "{PERSON} is shown as the owner of my account",
        "the app logs me out when I open the {PRODUCT} page", "I changed my phone in {CITY} and lost access", "how do I change the password for {PERSON}", "it says unknown user since {DATE}",
    ),
    "cancel": (
        "please cancel the {PRODUCT}", "I no longer need the {PRODUCT}, stop the order", "end my subscription on {DATE}", "call off the order for {PERSON}", "I ordered the {PRODUCT} by mistake",
        "do not send it to {CITY}, I changed my mind", "close the contract before {DATE}", "take the {PRODUCT} off my order", "withdraw what I ordered on {DATE}",
    ),
    "praise": (
        "the {PRODUCT} is wonderful", "{PERSON} in {CITY} was so helpful", "best shop in {CITY}", "I have used the {PRODUCT} since {DATE} and love it", "thank {PERSON} for me",
        "great service on {DATE}", "never had a better {PRODUCT}", "my friends in {CITY} all want a {PRODUCT} now", "it came early, well done",
    ),
    "opening hours": (
        "when does the shop in {CITY} open", "are you open on {DATE}", "until when can I pick up the {PRODUCT} in {CITY}", "is {PERSON} there on {DATE}", "what time do you close",
        "do you work on weekends in {CITY}", "which hours is the desk in {CITY} staffed", "can I come to the {CITY} branch on {DATE}", "how early can I see the {PRODUCT}",
    ),
}  # fmt: skip
REQUESTS_ZH = {
    "refund": ("{PRODUCT}坏了，我要退款", "请把{DATE}买的{PRODUCT}的钱退给我", "退款什么时候到账", "{DATE}被扣了两次钱", "{PERSON}答应退钱，一直没退", "{PRODUCT}已经寄回{CITY}，钱呢"),
    "delivery": ("我的{PRODUCT}到哪里了", "寄到{CITY}的包裹还没收到", "快递说{DATE}送到，没有来", "{PERSON}签收了，可我没拿到", "物流一直停在{CITY}", "{PRODUCT}发到{CITY}要几天"),
    "login": ("登录不了", "收不到验证码", "账号从{DATE}起被锁了", "我的账户显示的是{PERSON}", "在{CITY}换了手机以后进不去", "密码怎么改，打不开{PRODUCT}页面"),
    "cancel": ("帮我取消{PRODUCT}的订单", "{PRODUCT}不要了", "请在{DATE}之前停掉会员", "{PERSON}的那一单不要发了", "下错单了，别寄到{CITY}", "我要撤销{DATE}的订单"),
    "praise": ("{PRODUCT}非常好用", "{CITY}的{PERSON}服务很周到", "{DATE}收到，很满意", "替我谢谢{PERSON}", "{CITY}最好的店", "朋友都想买{PRODUCT}"),
    "opening hours": ("{CITY}的店几点开门", "{DATE}营业吗", "周末{CITY}门店开不开", "最晚几点可以去取{PRODUCT}", "{PERSON}{DATE}在店里吗", "你们几点关门"),
}  # fmt: skip
EXTRAS = (
    "I bought a {PRODUCT} on {DATE}", "my name is {PERSON}", "I live in {CITY}", "I wrote to {PERSON} already", "I was in your shop in {CITY} on {DATE}", "it is about the {PRODUCT}",
    "I thought of a refund first", "the delivery was fine", "I could sign in", "I nearly cancelled", "the hours on the door were wrong",
)  # fmt: skip
EXTRAS_ZH = ("我{DATE}买了{PRODUCT}", "我叫{PERSON}", "我在{CITY}", "已经跟{PERSON}说过了", "快递倒是很快", "本来想退款", "差点取消", "账号没有问题", "{DATE}去过{CITY}的店")  # fmt: skip
EITHER = (
    (("refund", "cancel"), ("what can be done about the {PRODUCT}", "I do not want the {PRODUCT} from {DATE}"), ("{DATE}的{PRODUCT}我不想要", "{PRODUCT}怎么处理")),
    (("delivery", "opening hours"), ("when can I have the {PRODUCT} in {CITY}", "will it be there on {DATE}"), ("{DATE}能拿到{PRODUCT}吗", "{CITY}什么时候能取")),
    (("praise", "delivery"), ("so the {PRODUCT} came on {DATE}", "well, {PERSON} has the {PRODUCT} now"), ("{PRODUCT}{DATE}到了", "{PERSON}拿到{PRODUCT}了")),
)  # fmt: skip
OPENINGS, CLOSINGS = ("", "", "Hello, ", "Hi {PERSON}, ", "Good morning. ", "Sorry, ", "So ", "Um, ", "Dear team, "), ("", "", "", "!", "?", ".", "...", " please", ", thanks", " 😀", " – {PERSON}", " Greetings from {CITY}")  # fmt: skip
OPENINGS_ZH, CLOSINGS_ZH = ("", "", "你好，", "您好！", "那个，", "请问", "{PERSON}你好，"), ("", "", "。", "！", "？", "，谢谢", "……", "😀", "，急")  # fmt: skip


def messages(task: Task, seed: int = 0) -> Source:
    """The sample messages with their intents, or the same messages with their entities: persons, cities, products and dates."""
    random = np.random.default_rng(seed)
    found: dict[str, Item] = {}
    while len(found) < MESSAGES:
        intent, text, spans = _message(random)
        labels, spans = ((), spans) if task == "entities" else ((intent,), ())
        found.setdefault(text, Item(f"message {len(found) + 1}", text, labels, spans))
    return Source("generated messages of customers in English and Chinese", task, list(found.values()))


def _message(random: np.random.Generator) -> tuple[str, str, tuple[Span, ...]]:
    chinese = random.random() < CHINESE
    intent = str(random.choice(list(REQUESTS)))
    request = _one((REQUESTS_ZH if chinese else REQUESTS)[intent], random)
    if random.random() < UNCLEAR:
        pair, english, others = EITHER[random.integers(len(EITHER))]
        intent, request = _one(pair, random), _one(others if chinese else english, random)
    if random.random() < CONTEXT:
        both = [request, _one(EXTRAS_ZH if chinese else EXTRAS, random)]
        random.shuffle(both)
        request = _one("，。" if chinese else (", ", ". ", " and "), random).join(both)
    opening, closing = (OPENINGS_ZH, CLOSINGS_ZH) if chinese else (OPENINGS, CLOSINGS)
    pieces = _filled(_one(opening, random) + request + _one(closing, random), chinese, random)
    if not chinese:
        pieces = _noisy(pieces, random)
    return intent, *_marked(pieces)


def _filled(template: str, chinese: bool, random: np.random.Generator) -> list[tuple[str, str]]:
    """The pieces of a filled template in order, each with its entity type, or '' for plain text."""
    parts = re.split(r"\{([A-Z]+)\}", template)
    return [((_name(part, chinese, random), part) if place % 2 else (part, "")) for place, part in enumerate(parts) if part]


def _name(kind: str, chinese: bool, random: np.random.Generator) -> str:
    if kind == "PERSON":
        if chinese:
            return _one(SURNAMES, random) + "".join(_one(GIVEN, random) for _ in range(random.integers(1, 3)))
        return _one(FIRST, random) + (f" {_one(LAST, random)}" if random.random() < 0.6 else "")
    if kind == "CITY":
        return _one(CITIES_ZH if chinese else CITIES, random)
    if kind == "PRODUCT":
        number = str(random.integers(2, 10)) if random.random() < 0.3 else ""
        if chinese:
            return _one(MAKES_ZH, random) + number + _one(THINGS_ZH, random)
        return " ".join(filter(None, (_one(MAKES, random), number, _one(THINGS, random))))
    if chinese:
        return f"{random.integers(1, 13)}月{random.integers(1, 29)}日" if random.random() < 0.6 else _one(DAYS_ZH, random)
    day = int(random.integers(1, 29))
    written = (
        _one(DAYS, random),
        f"{_one(MONTHS, random)} {day}",
        f"{day} {_one(MONTHS, random)}",
        f"2024-{random.integers(1, 13):02d}-{day:02d}",
    )
    return _one(written, random)


def _noisy(pieces: list[tuple[str, str]], random: np.random.Generator) -> list[tuple[str, str]]:
    """The pieces with a random typo outside of entities, or all in lower case, or both."""
    plain = [place for place, (text, kind) in enumerate(pieces) if not kind and len(text) > 5]
    if plain and random.random() < TYPO:
        place = plain[random.integers(len(plain))]
        text = pieces[place][0]
        at = int(random.integers(1, len(text) - 2))
        pieces[place] = text[:at] + text[at + 1] + text[at] + text[at + 2 :], ""
    if random.random() < LOWER:
        pieces = [(text.lower(), kind) for text, kind in pieces]
    return pieces


def _marked(pieces: Sequence[tuple[str, str]]) -> tuple[str, tuple[Span, ...]]:
    text, spans = "", []
    for piece, kind in pieces:
        if kind:
            spans.append(Span(len(text), len(text) + len(piece), kind))
        text += piece
    lead = len(text) - len(text.lstrip())
    return text.strip(), tuple(Span(s.start - lead, s.end - lead, s.label) for s in spans)


def _one(among: Sequence[str], random: np.random.Generator) -> str:
    return among[int(random.integers(len(among)))]
