"""The prompts whose scores a bundle carries as golden.jsonl: whoever loads the bundle scores them again and compares.

They cover every branch of the encoding and a few kinds of text that break careless tokenisers.
"""

LONG_LOG = "2031-05-02 10:14:07 worker-3 retry 2 of 5: upstream closed the connection before the response ended\n"
REPORT = (
    "The northern depot handled 1,240 parcels on Monday and 1,310 on Tuesday, four per cent more than in the week "
    "before; two vans were out of service and the late shift was one person short. "
)


def prompts() -> list[tuple[str, list[dict]]]:
    """Returns pairs of id and messages."""
    single = {
        "greeting": "hi there!",
        "command": "turn off the kitchen lights and set an alarm for 6:30",
        "fact": "What is the capital of Portugal?",
        "translation": "Translate to French: the train leaves at noon",
        "classification": "Is this review positive or negative? 'The battery died after two days.'",
        "extraction": "Pull invoice number, date and total from this as JSON: Invoice 8841, 3 May, total 412.50 EUR",
        "rewrite": "Make this sound more polite: send me the file today",
        "code": "Write a Python function that returns the n most frequent words of a text file.",
        "code_hard": "Why can this lock-free queue lose items when two producers race on tail.next, and how do I prove "
        "the fix correct under the C++ memory model?",
        "math": "What is 17 * 23?",
        "proof": "Prove that every bounded sequence of real numbers has a convergent subsequence.",
        "ideas": "Ten names for a small bakery that also sells plants",
        "letter": "Write a short letter to my landlord: the heating has been broken for a week and I want a date.",
        "plan": "We run 40 services on one Postgres cluster and want zero-downtime migration to three regions within "
        "two quarters. Lay out the target architecture, the order of steps, the risks and how we roll back.",
        "german": "Kannst du mir kurz erklären, was eine Wärmepumpe macht?",
        "chinese": "请把下面这句话翻译成英文：明天早上九点开会。",
        "japanese": "東京から京都まで新幹線でどのくらいかかりますか？",
        "empty": "",
        "spaces": " \t\n ",
        "emoji": "🎉🎉 omg it worked 👩🏽‍💻✨ thx!!!",
        "control": "pri\u0000ce\u0007 of\u200b the \u202ebasic\u202c plan\u00ad?",
        "gibberish": "asdkjh qwoeiu zzzz ,,,, 000",
        "pasted_middle": "Summarise the report below in three bullet points.\n\n" + REPORT * 8,
        "pasted_long": "Which worker fails most often in this log?\n" + LONG_LOG * 120 + "Just name the worker.",
    }
    rows = [(name, [{"role": "user", "content": text}]) for name, text in single.items()]
    rows.append(
        (
            "follow_up_yes",
            [
                {"role": "user", "content": "My nightly backup job takes nine hours. What could I do?"},
                {
                    "role": "assistant",
                    "content": "You could switch to incremental snapshots and run them in parallel. Shall I write the "
                    "migration plan with a rollback for each step?",
                },
                {"role": "user", "content": "yes, do it"},
            ],
        )
    )
    rows.append(
        (
            "system_and_turns",
            [
                {"role": "system", "content": "You are the support assistant of a bicycle shop. " * 8},
                {"role": "user", "content": "Do you have brake pads for a 2019 city bike?"},
                {"role": "assistant", "content": "Yes, two kinds: organic and metallic. " + REPORT * 2},
                {"role": "user", "content": "the cheaper one"},
                {"role": "assistant", "content": "That is the organic pair at 9.90."},
                {"role": "user", "content": "And how do I fit them?"},
            ],
        )
    )
    rows.append(
        (
            "no_user_message",
            [
                {"role": "system", "content": "Classify the sentiment of what follows."},
                {"role": "assistant", "content": "Ready when you are."},
            ],
        )
    )
    return rows
