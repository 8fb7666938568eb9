//! How refusals begin, language by language: the pattern table of `refusal`.
//!
//! Patterns read folded words (see `fold`): lowercase, no accents, no punctuation, a space around each word.
//! A refusal is led up to ("I'm sorry, but") or stands alone. Led ones may be wider, since an apology in front
//! rules out most other readings; the table holds verbs of refusing to help, never of plain inability such as
//! opening a link.

/// One language's share of the table.
pub struct Language {
    /// What leads up to a refusal: regrets, thanks, sympathy, what the speaker is.
    pub leads: &'static str,
    /// What may stand between lead and refusal.
    pub gap: &'static str,
    /// Refusals by themselves.
    pub plain: &'static [&'static str],
    /// Refusals after a lead only.
    pub led: &'static [&'static str],
    /// What a sentence that holds it is instead: praise, a hedge, a call for more information.
    pub exceptions: &'static str,
}

impl Language {
    /// Returns what ends a lead: a space where words have some.
    pub fn lead_end(&self) -> &'static str {
        if self.gap == SPACED { " " } else { "" }
    }
}

/// Other words, or none.
const SPACED: &str = " (?:.* )?";
const UNSPACED: &str = ".*";

pub const LANGUAGES: [Language; 14] = [
    ENGLISH, GERMAN, FRENCH, SPANISH, ITALIAN, PORTUGUESE, DUTCH, POLISH, RUSSIAN, CHINESE, JAPANESE, KOREAN,
    TURKISH, ARABIC,
];

const ENGLISH: Language = Language {
    leads: concat!(
        "(?:(?:oh|hi|hello|hey|no|hmm|well|okay|ok|but) )*(?:(?:i'm|i am|we're|we are|my) (?:[^ ]+ )?(?:sorry|afraid|apologies)",
        "|sorry|(?:i|we) (?:[^ ]+ )?(?:apologi[sz]e|regret)|(?:sincere |our )?apologies|unfortunately|regrettably|sadly",
        "|thank you|thanks|i (?:[^ ]+ )?(?:understand|appreciate|hear|know|reali[sz]e|recogni[sz]e|see|get)|while i|although",
        "|as an? (?:[^ ]+ ){0,3}?(?:ai|assistant|model|chatbot|intelligence)|(?:i'm|i am) (?:just |only )?an? (?:[^ ]+ ){0,4}?(?:ai|assistant|model|chatbot)",
        "|that's a|this is a|for (?:[^ ]+ ){0,3}?reasons|due to my|because of my|hi|hello|no|nope|hmm)",
    ),
    gap: SPACED,
    plain: &[
        concat!(
            "(?:(?:but|and|so|no|nope) )*(?:i'm|i am|i will|i'll|i) (?:[^ ]+ly )?",
            "(?:can'?t|cannot|can not|won't|will not|not able to|unable to|not going to|not allowed to|not permitted to",
            "|not programmed to|not designed to|not be able to|not willing to|won't be able to|cannot and will not",
            "|can't and won't|do not|don't) (?:be able to )?(?:[^ ]+ly )?",
            "(?:(?:help|assist|aid)(?: you)?(?: out)? (?:with|in|on|further|$)|fulfil |fulfill |comply |accommodate ",
            "|(?:provide|create|generate|write|produce|share|offer|give|compose|supply)(?: you)?(?: with)? (?:that|this|such|those|these",
            "|instructions|information|content|details|guidance|assistance|help|any|advice|medical|legal|financial|explicit|harmful",
            "|malicious|material|step|sexual|violent|hateful|tips|code that|code for|malware|hacking|responses)",
            "|(?:engage|participate) in |(?:discuss|talk about|answer|respond to|continue|support|encourage|promote) (?:that|this|such|those|these|your|violence|illegal|harmful|questions|about|with|the request|requests|topics)",
            "|do (?:that|this) (?:$|for|because|as|request)|make (?:explicit|jokes about|content|threats)|facilitate )",
        ),
        "(?:[^ ]+ ){0,6}?(?:i must|i have to|i'll have to|i need to|i'm going to have to|i will have to|i'd have to|i would have to) (?:[^ ]+ ){0,2}?(?:decline|refuse|pass on) (?:$|to|this|that|your|the (?:request|offer)|such|it|any|because|answering|helping)",
        "i (?:refuse|decline) to (?:help|assist|provide|answer|write|create|do|engage|participate|comply)",
        "(?:[^ ]+ ){0,5}?(?:not|isn't) (?:something|a topic|a request|anything|a task) (?:that )?(?:i|i'm|i'd) (?:can|am|able|will|would|could|help|comfortable|feel)",
        "(?:[^ ]+ ){0,8}?(?:goes|is|are|would be|would go|go|run|runs) (?:[^ ]+ ){0,2}?(?:against|outside|beyond) (?:of )?(?:my|what i can|what i'm able|the scope of what i) ",
        "(?:[^ ]+ ){0,3}?(?:request|prompt|question|content|message) (?:[^ ]+ ){0,3}?(?:violates?|goes against) (?:[^ ]+ ){0,3}?(?:policy|policies|guidelines|terms) ",
        "(?:[^ ]+ ){0,6}?my (?:[^ ]+ ){0,3}?(?:guidelines|programming|policies|principles) (?:[^ ]+ ){0,2}?(?:prevent|prohibit|don't|do not|forbid|preclude|restrict)",
        "(?:[^ ]+ ){0,3}?it (?:would be|is|would not be|wouldn't be|is not|isn't) (?:[^ ]+ ){0,4}?for me to (?:provide|help|assist|write|create|share|give|engage|answer|discuss|generate)",
        "(?:[^ ]+ ){0,3}?(?:i'm|i am|i don't feel|i do not feel|i wouldn't feel|i wouldn't be) (?:not )?comfortable (?:[^ ]+ )?(?:helping|with|providing|writing|creating|discussing|sharing|answering|assisting|doing|generating)",
        "i'd (?:really )?(?:rather|prefer) (?:to )?not (?:to )?(?:continue|help|discuss|answer|talk|engage|do that|write|assist)",
        "(?:[^ ]+ ){0,4}?i (?:won't|will not) be (?:able to (?:help|assist|provide|fulfil|do that|answer|write|create|continue)|helping|providing|writing|creating|generating|assisting|doing that|discussing|sharing)",
        "i (?:don't|do not) think i (?:can|should) (?:help|assist|answer|write|provide)",
        "let's (?:talk about|change|discuss) (?:something else|the subject|another topic)",
        "(?:i'm|i am) (?:just |only )?an? (?:[^ ]+ ){0,3}?model (?:and|so) (?:[^ ]+ ){0,6}?(?:can't|cannot|unable|not able|not programmed)",
    ],
    led: &[
        concat!(
            "(?:i'm|i am|i will|i'll|i) (?:[^ ]+ly )?",
            "(?:can'?t|cannot|can not|won't|will not|must not|(?:am )?not able to|(?:am )?unable to|not going to|not allowed to|not permitted to",
            "|not programmed to|not designed to|not be able to|not in a position to|shouldn't|couldn't) ",
            "(?:be able to )?(?:in good conscience )?(?:[^ ]+ly )?",
            "(?:help|assist|aid|provide|comply|create|generate|write|produce|compose|continue with|continue this|engage|participate",
            "|support (?:this|that|your|the)|do (?:that|this|so|what|it)|share|discuss|complete (?:this|that|your|the)|proceed with|carry out",
            "|perform (?:this|that)|give (?:you )?(?:advice|instructions|information|that|this|any|medical|legal|guidance|details)",
            "|reproduce (?:the|that|this|copyrighted|song)|explain how to|advise|satisfy|promote|encourage|facilitate|role ?play|pretend|depict",
            "|talk about|answer (?:that|this|your|questions|such|the)|respond to|tell you how to|accommodate|go along|honou?r|grant|make (?:that|this|jokes))",
        ),
        "(?:that|this|your|the) (?:[^ ]+ ){0,2}?(?:can't|cannot|can not) be (?:fulfilled|answered|completed|discussed) ",
        "i can only (?:help|assist|answer|discuss|respond|talk)",
        "(?:that|this) (?:is )?(?:not )?(?:against|violates) my ",
        "(?:that's|this is|that is) (?:not )?(?:against|outside|beyond) (?:my|what) ",
        "i (?:don't|do not) (?:create|provide|generate|write|produce|help with|assist with|engage in|participate in) ",
    ],
    exceptions: concat!(
        " (?:enough|help but|help (?:feeling|thinking|noticing|wondering|smiling|laughing|falling)|how (?:grateful|happy|much|excited|thankful|glad)",
        "|without (?:more|further|seeing|knowing|additional|some more|the (?:full|code|file|context|actual|rest|exact)|your)|until|unless",
        "|(?:an?|the|any) (?:definitive|exact|precise|definite|accurate|reliable)|refunds?|discounts?|the file|the attachment|any image|the image",
        "|yet|anymore (?:than|because)|(?:he|she|they|it) (?:said|replied|says)) ",
    ),
};

const GERMAN: Language = Language {
    leads: concat!(
        "(?:(?:oh|hallo|nein|ja|hmm) )*(?:(?:es )?tut mir (?:[^ ]+ )?leid|entschuldigung|entschuldige|entschuldigen sie|verzeihung|verzeih|sorry|leider",
        "|ich bedauere?|bedauerlicherweise|ich verstehe|ich bitte um (?:[^ ]+ )?(?:entschuldigung|verstandnis|verzeihung)|danke|vielen dank",
        "|als (?:[^ ]+ ){0,3}?(?:ki|sprachmodell|assistent|assistentin)|ich bin (?:nur )?eine? (?:[^ ]+ ){0,2}?(?:ki|sprachmodell|assistent)|aus (?:[^ ]+ ){1,3}?grunden|nein|hallo)",
    ),
    gap: SPACED,
    plain: &[
        concat!(
            "(?:(?:aber|nein) )*(?:(?:dabei|hierbei|damit|da|dazu|hiermit|das|so etwas|diese[mrns]? [^ ]+|(?:bei|auf|mit|zu) (?:[^ ]+ ){1,4}?) )?",
            "(?:ich (?:kann|darf|werde)|(?:kann|darf|werde) ich) (?:[^ ]+ ){0,6}?(?:nicht|keine|kein|keinen|keinerlei) (?:[^ ]+ ){0,5}?",
            "(?:helfen|weiterhelfen|unterstutzen|behilflich|nachkommen|bereitstellen|zur verfugung stellen|erfullen|dienen|eingehen|assistieren|entsprechen) ",
        ),
        "(?:[^ ]+ ){0,6}?(?:verstosst|widerspricht|verstoßt) (?:gegen )?(?:meine|meinen|unsere|die) (?:[^ ]+ )?(?:richtlinien|grundsatze|grundsatzen|prinzipien|nutzungs)",
        concat!(
            "ich (?:kann|darf|werde) (?:[^ ]+ ){0,2}?keine (?:[^ ]+ )?(?:informationen|anleitung|anleitungen|auskunft|auskunfte|ratschlage|tipps) ",
            "(?:.* )?(?:geben|anbieten|liefern|teilen) ",
        ),
        "(?:[^ ]+ ){0,4}?ich (?:muss|mochte) (?:[^ ]+ ){0,5}?(?:ablehnen|verweigern) ",
        "(?:[^ ]+ ){0,3}?ich (?:lehne es ab|weigere mich|lehne das ab|lehne diese)",
        "(?:[^ ]+ ){0,2}?(?:ich bin|bin ich) (?:[^ ]+ ){0,2}?nicht (?:in der lage|befugt|berechtigt) (?:[^ ]+ ){0,8}?(?:zu helfen|zu unterstutzen|bereitzustellen|zu geben|zu erstellen|zu beantworten|zu erfullen|nachzukommen) ",
        "das kann ich (?:leider )?nicht tun ",
        "ich fuhle mich (?:[^ ]+ ){0,3}?nicht wohl (?:dabei|damit)",
    ],
    led: &[
        concat!(
            "(?:ich (?:kann|darf|werde|mochte|konnte)|(?:kann|darf|werde|mochte|konnte) ich) (?:.* )?(?:nicht|keine|kein|keinen|keinerlei) (?:.* )?",
            "(?:helfen|weiterhelfen|unterstutzen|behilflich|bereitstellen|zur verfugung|beantworten|erfullen|nachkommen|erstellen|schreiben|generieren|verfassen",
            "|geben|anbieten|liefern|tun|teilen|fortfahren|fortsetzen|mitmachen|eingehen|beteiligen|produzieren|erzeugen|entsprechen|dienen|assistieren|diskutieren|ausfuhren|beraten|besprechen) ",
        ),
        "(?:ist es mir|es ist mir|ist mir das|ist mir dies) (?:[^ ]+ )?(?:nicht|untersagt|unmoglich)",
        "(?:ich bin|bin ich) (?:[^ ]+ ){0,2}?nicht (?:in der lage|befugt|berechtigt|dafur)",
    ],
    exceptions: " (?:nicht (?:oft|genug)|genug|ohne (?:weitere|mehr|nahere|zusatzliche|genauere|die|den|das|zu)|bevor|solange|sobald|wenn ich nicht|endgultig[^ ]*|noch nicht) ",
};

const FRENCH: Language = Language {
    leads: concat!(
        "(?:(?:oh|bonjour|non|mais) )*(?:(?:je suis |je suis vraiment |je suis sincerement )?(?:vraiment )?(?:desolee?|navree?)|je regrette|malheureusement|pardon|excusez moi|excuse moi",
        "|je comprends|merci|en tant qu[^ ]*|je m'excuse|je vous prie de m'excuser|toutes mes excuses|pour des raisons|je crains|non|bonjour|c'est gentil)",
    ),
    gap: SPACED,
    plain: &[
        concat!(
            "(?:(?:mais|non) )*je (?:ne |n' ?)?(?:peux|suis|saurais|vais|pourrai|pourrais|puis) (?:[^ ]+ )?pas (?:en mesure (?:de |d')|capable (?:de |d')|autorisee? a )?(?:[^ ]+ ){0,3}?",
            "(?:[^ ]+')?(?:aider|assister|fournir|repondre (?:a|aux)|satisfaire|accompagner|generer|donner suite|participer|acceder a (?:cette|votre|ta)) ",
        ),
        "(?:[^ ]+ ){0,3}?je (?:dois|prefere|me dois de) (?:[^ ]+ ){0,3}?(?:decliner|refuser|ne pas) ",
        "je refuse (?:de|d'|cette)",
        "(?:[^ ]+ ){0,5}?(?:va a l'encontre|enfreint|est contraire|viole|vont a l'encontre) (?:[^ ]+ ){0,3}?(?:mes|directives|principes|regles|conditions)",
        "(?:il )?m'est impossible (?:de |d')(?:[^ ]+ ){0,2}?(?:[^ ]+')?(?:aider|fournir|repondre|satisfaire|donner|generer|creer)",
        "(?:[^ ]+ ){0,4}?je ne suis pas a l'aise",
        "(?:ce|c') ?n'est pas quelque chose que je peux",
    ],
    led: &[
        concat!(
            "(?:je (?:ne |n' ?)?(?:peux|suis|saurais|vais|pourrai|pourrais|puis) (?:[^ ]+ )?(?:pas|ni)|je ne (?:peux|puis)|(?:il )?(?:ne )?m'est (?:pas )?(?:impossible|possible|permis)) (?:.* )?",
            "(?:[^ ]+')?(?:aider|assister|fournir|repondre|satisfaire|donner|creer|generer|ecrire|rediger|produire|continuer|participer|partager|proposer|accomplir|acceder a|accompagner",
            "|traiter|poursuivre|discuter|expliquer|conseiller|offrir|faire (?:cela|ca)|executer|engager|composer) ",
        ),
        "je ne (?:peux|suis) pas (?:faire|d'accord|habilite)",
    ],
    exceptions: " (?:sans (?:plus|davantage|autres|connaitre|voir|savoir|avoir|informations)|assez|m'empecher|tant que|avant (?:de|d'avoir|que)|que recommander|que vous conseiller) ",
};

const SPANISH: Language = Language {
    leads: concat!(
        "(?:(?:oh|hola|no|pero) )*(?:lo siento|siento|lo lamento|lamento|lamentablemente|disculpa|disculpe|disculpas|perdon|perdona|desafortunadamente|por desgracia|desgraciadamente",
        "|entiendo|comprendo|gracias|como (?:una? )?(?:[^ ]+ ){0,3}?(?:ia|inteligencia|asistente|modelo)|me temo|pido disculpas|por (?:razones|motivos)|agradezco|no|hola)",
    ),
    gap: SPACED,
    plain: &[
        concat!(
            "(?:(?:pero|no) )*no (?:puedo|podre|voy a|me es posible|estoy en condiciones de|estoy autorizad[oa] a|soy capaz de|estoy disponible para) (?:[^ ]+ )?",
            "(?:ayudar|asistir|proporcionar|cumplir con|brindar|ofrecer|generar|participar|facilitar|responder a (?:es|tu|su)|colaborar|continuar con (?:es|tu|su))[^ ]* ",
        ),
        "(?:[^ ]+ ){0,3}?(?:debo|tengo que|prefiero) (?:[^ ]+ ){0,2}?(?:declinar|rechazar|negarme|no (?:responder|hablar|continuar)) ",
        "me niego a ",
        "(?:[^ ]+ ){0,4}?(?:va|van|iria|esta) (?:[^ ]+ )?en contra de (?:mis|las|nuestras) ",
        "(?:[^ ]+ ){0,3}?(?:infringe|viola|incumple) (?:[^ ]+ ){0,2}?(?:mis|politicas|directrices|normas) ",
        "(?:eso|esto) no es algo (?:en lo que|que|con lo que) (?:[^ ]+ ){0,2}?(?:pueda|puedo)",
    ],
    led: &[concat!(
        "no (?:me )?(?:puedo|podria|podre|voy a|estoy en condiciones|estoy autorizad[oa]|soy capaz|es posible|tengo permitido|se me permite|debo) (?:.* )?",
        "(?:ayudar|asistir|proporcionar|responder|cumplir|crear|generar|escribir|redactar|ofrecer|dar|facilitar|brindar|compartir|continuar|participar|hacer(?:lo| eso| esto)|producir|completar|atender|apoyar|discutir",
        "|colaborar|satisfacer|explicar como|realizar|elaborar|hablar|tratar)[^ ]* ",
    )],
    exceptions: " (?:sin (?:mas|ver|saber|conocer|informacion|tener|que me)|suficiente|dejar de|hasta que|a menos que|definitiv[oa]|aun) ",
};

const ITALIAN: Language = Language {
    leads: concat!(
        "(?:(?:oh|ciao|no|ma) )*(?:mi (?:[^ ]+ )?dispiace|spiacente|sono (?:[^ ]+ )?spiacente|purtroppo|scusa|scusami|scusi|mi scuso|capisco|comprendo|grazie",
        "|(?:in quanto|come) (?:[^ ]+ ){0,3}?(?:ia|ai|assistente|modello|intelligenza)|mi rincresce|sfortunatamente|per (?:motivi|ragioni)|temo|no|ciao)",
    ),
    gap: SPACED,
    plain: &[
        concat!(
            "(?:(?:ma|no) )*non (?:ti |vi |le |la )?(?:posso|potro|sono in grado di|mi e possibile|sono autorizzat[oa] a) (?:[^ ]+ )?",
            "(?:aiutar|assister|fornir|soddisfar|esaudir|generar|partecipar|rispondere a (?:quest|tal|cio)|supportar|continuare con)[^ ]* ",
        ),
        "(?:[^ ]+ ){0,3}?(?:devo|preferisco) (?:[^ ]+ ){0,2}?(?:rifiutar|declinar|non (?:rispondere|parlarne|continuare))",
        "mi rifiuto di ",
        "(?:[^ ]+ ){0,4}?(?:va|vanno|viola|contravviene) (?:contro |alle )?(?:le |i |alle )?(?:mie|miei|linee) ",
        "(?:questo )?non e qualcosa (?:con cui|che|in cui) (?:posso|io)",
    ],
    led: &[concat!(
        "non (?:ti |vi |le |la |mi )?(?:posso|potrei|potro|sono in grado|e possibile|sono autorizzat[oa]|e consentito|e permesso) (?:.* )?",
        "(?:aiutar|assister|fornir|risponder|soddisfar|crear|generar|scriver|dar|offrir|continuar|partecipar|condivider|esaudir|far(?:lo|e questo)|produr|supportar|rediger|discuter|proceder|completar|accontentar)[^ ]* ",
    )],
    exceptions: " (?:senza (?:ulteriori|altre|sapere|vedere|maggiori|conoscere|avere)|fare a meno|abbastanza|finche|a meno che|definitiv[oa]) ",
};

const PORTUGUESE: Language = Language {
    leads: concat!(
        "(?:(?:oh|ola|nao|mas) )*(?:desculpe|desculpa|desculpas|sinto (?:muito|mas)|lamento|infelizmente|peco desculpas?|lamentavelmente|entendo|compreendo|obrigad[oa]",
        "|como (?:uma? )?(?:[^ ]+ ){0,3}?(?:ia|assistente|modelo|inteligencia)|receio|por (?:razoes|motivos)|agradeco|nao|ola|perdao)",
    ),
    gap: SPACED,
    plain: &[
        concat!(
            "(?:(?:mas|nao) )*(?:eu )?nao (?:posso|poderei|consigo|vou|estou apt[oa] a|estou autorizad[oa] a|sou capaz de|tenho permissao para) (?:[^ ]+ )?",
            "(?:ajuda|auxilia|fornece|atende|gerar|participar|cumprir|compartilhar (?:es|inform)|responder a (?:es|is)|oferecer|prestar)[^ ]* ",
        ),
        "(?:[^ ]+ ){0,3}?(?:devo|preciso|tenho que|prefiro) (?:[^ ]+ ){0,2}?(?:recusar|declinar|nao (?:responder|falar|continuar)) ",
        "(?:eu )?(?:me recuso|recuso me) a ",
        "(?:[^ ]+ ){0,4}?(?:vai|vao|viola|infringe) (?:contra |de encontro )?(?:as |aos |os )?(?:minhas|meus|diretrizes|politicas) ",
        "(?:isso|isto) nao e algo (?:em que|que|com que|com o que) (?:eu )?(?:posso|possa)",
    ],
    led: &[concat!(
        "nao (?:posso|poderei|consigo|poderia|vou|estou (?:apt[oa]|autorizad[oa]|em condicoes)|me e possivel|e possivel|sou capaz|tenho permissao|me e permitido) (?:.* )?",
        "(?:ajuda|auxilia|fornec|responde|atende|cumpri|cria|gera|escreve|oferece|dar|continua|participa|compartilha|partilha|fazer (?:isso|isto)|produzi|prossegui|completa|apoia|discuti|redigi|presta|assisti|realiza|satisfaze|fala)[^ ]* ",
    )],
    exceptions: " (?:sem (?:mais|ver|saber|conhecer|ter|informacoes)|suficiente|deixar de|ate que|a menos que|definitiv[oa]|ainda) ",
};

const DUTCH: Language = Language {
    leads: concat!(
        "(?:(?:oh|hallo|nee|maar) )*(?:het spijt (?:me|mij)|spijtig|sorry|helaas|excuses|mijn (?:oprechte )?(?:excuses|verontschuldigingen)|jammer genoeg|ik begrijp|bedankt|dank je|dank u",
        "|als (?:een )?(?:[^ ]+ ){0,2}?(?:ai|taalmodel|assistent)|ik ben bang|om (?:[^ ]+ )?redenen|nee|hallo)",
    ),
    gap: SPACED,
    plain: &[
        concat!(
            "(?:(?:maar|nee) )*(?:(?:daar|hier|dat|dit|daarbij|hierbij|met [^ ]+ [^ ]+) )?(?:ik (?:kan|mag|zal|wil)|(?:kan|mag|zal|wil) ik) (?:[^ ]+ ){0,5}?(?:niet|geen) (?:[^ ]+ ){0,4}?",
            "(?:helpen|bijstaan|verstrekken|voldoen|assisteren|meewerken|verlenen|behulpzaam|ondersteunen) ",
        ),
        "(?:[^ ]+ ){0,3}?(?:ik )?moet (?:ik )?(?:[^ ]+ ){0,4}?(?:weigeren|afwijzen|afslaan) ",
        "(?:[^ ]+ ){0,4}?(?:gaat|druist|is) (?:[^ ]+ )?(?:tegen|in tegen|in strijd met) mijn ",
        "ik weiger (?:om|dit|dat)",
    ],
    led: &[
        concat!(
            "(?:ik (?:kan|mag|zal|wil)|(?:kan|mag|zal|wil) ik) (?:.* )?(?:niet|geen) (?:.* )?",
            "(?:helpen|bijstaan|verstrekken|geven|beantwoorden|voldoen|maken|schrijven|genereren|assisteren|bieden|doorgaan|meewerken|verlenen|delen|ondersteunen|uitvoeren|produceren|leveren|ingaan|adviseren|deelnemen|bespreken|doen) ",
        ),
        "(?:ik ben|ben ik) (?:[^ ]+ )?niet (?:in staat|bevoegd|gemachtigd)",
    ],
    exceptions: " (?:zonder (?:meer|verdere|extra|de|het|te|nadere)|genoeg|tot(?:dat)?|tenzij|definitief|nog niet) ",
};

const POLISH: Language = Language {
    leads: concat!(
        "(?:(?:oh|czesc|nie|ale) )*(?:przepraszam|(?:bardzo )?przykro mi|bardzo mi przykro|niestety|wybacz|rozumiem|dziekuje|jako (?:[^ ]+ ){0,3}?(?:ai|asystent|model|sztuczna)",
        "|obawiam sie|z (?:[^ ]+ )?(?:powodow|wzgledow)|nie|czesc)",
    ),
    gap: SPACED,
    plain: &[
        concat!(
            "(?:(?:ale|nie) )*(?:w tym |z tym |na to |tego )?nie (?:moge|bede mog[^ ]+|jestem w stanie|wolno mi|bede) (?:[^ ]+ ){0,4}?",
            "(?:pomoc|pomagac|udzielic|udzielac|spelnic|wygenerowac|uczestniczyc|dostarczyc|zapewnic|wesprzec|odpowiedziec na (?:to|te|ta)) ",
        ),
        "(?:[^ ]+ ){0,3}?musze (?:[^ ]+ ){0,3}?(?:odmowic|odrzucic) ",
        "odmawiam ",
        "(?:[^ ]+ ){0,4}?(?:jest niezgodn[aey]|narusza|sprzeczn[aey]|niezgodne) (?:[^ ]+ ){0,2}?(?:moimi|moje|wytyczn|zasad)",
    ],
    led: &[concat!(
        "nie (?:moge|bede mog[^ ]+|jestem w stanie|wolno mi|mam mozliwosci|bede|moglbym|powinienem) (?:.* )?",
        "(?:pomoc|pomagac|udzielic|spelnic|odpowiedziec|dostarczyc|stworzyc|wygenerowac|napisac|podac|kontynuowac|uczestniczyc|zrealizowac|wykonac|wspierac|przedstawic|zapewnic|tworzyc|generowac|udostepnic|doradzac|tego zrobic|zrobic tego|pisac) ",
    )],
    exceptions: " (?:bez (?:dodatkowych|wiecej|wiedzy|dalszych|znajomosci)|dosc|dopoki|ostateczn[^ ]*|wystarczajaco|jeszcze) ",
};

const RUSSIAN: Language = Language {
    leads: concat!(
        "(?:(?:о|привет|нет|но|здравствуите) )*(?:извините|извини|простите|прости|к сожалению|сожалею|мне (?:очень )?жаль|очень жаль|прошу прощения|приношу (?:свои )?извинения|я понимаю|понимаю|спасибо",
        "|как (?:[^ ]+ ){0,4}?(?:ии|модель|ассистент|помощник|интеллект)|я (?:всего )?лишь|боюсь|нет|здравствуите|благодарю)",
    ),
    gap: SPACED,
    plain: &[
        concat!(
            "(?:(?:но|нет|я) )*(?:с этим |в этом )?(?:я )?не (?:могу|смогу|буду|в состоянии|вправе|имею права) (?:[^ ]+ ){0,4}?",
            "(?:помо[чг][^ ]*|предоставить|предоставлять|выполнить (?:эт|ваш|так|данн|тво)[^ ]*|ответить на (?:эт|ваш|так|данн)[^ ]*|участвовать|содеиствовать|сгенерировать|(?:дать|давать) (?:инструкц|совет|информац)[^ ]*|обсуждать|оказ[^ ]+) ",
        ),
        "(?:[^ ]+ ){0,3}?(?:вынужден[а]?|должен|должна) (?:[^ ]+ )?(?:отказать|отклонить|отказаться)",
        "я отказываюсь ",
        "(?:[^ ]+ ){0,4}?(?:противоречит|нарушает) (?:[^ ]+ ){0,2}?(?:моим|мои|правил|принцип|политик)",
        "(?:даваите|даваи) (?:поговорим|сменим|обсудим) (?:о чем то другом|о чем нибудь|тему|что то другое)",
    ],
    led: &[concat!(
        "не (?:могу|смогу|буду|имею права|имею возможности|в состоянии|вправе|способен|способна|должен|стану|умею) (?:.* )?",
        "(?:помо[чг]|предостав|выполн|ответ|отвеч|созда|сгенерир|генерир|напис|писать|дать|дава|продолж|участвова|оказ|подел|обсужда|обсудить|поддерж|рассказ|удовлетвор|предлож|содеиств|делать|сделать|консультир|комментир)[^ ]* ",
    )],
    exceptions: " (?:без (?:дополнительн[^ ]*|более|уточнен[^ ]*|подробн[^ ]*|доступа|знания)|не помочь|достаточно|пока не|окончательн[^ ]*|точн(?:ыи|ого) ответ) ",
};

const CHINESE: Language = Language {
    leads: "(?:很|非常|十分|真的)?(?:抱歉|对不起|對不起|遗憾|不好意思)|(?:作为|作為).{0,12}?(?:人工智能|ai|语言模型|語言模型|助手|模型)|我理解|我明白|感谢|谢谢|您好|你好|我是.{0,10}?(?:人工智能|ai|语言模型|助手)",
    gap: UNSPACED,
    plain: &[
        "(?:但 ?|但是 ?)?我.{0,4}?(?:不能|无法|不会|無法|不可以|没办法|不方便).{0,6}?(?:提供|帮助|帮您|帮你|协助|協助|回答(?:这|您|你|该|此)|满足|生成|参与|讨论|继续(?:这|此|该)|支持(?:这|此)|幫)",
        "(?:这个|该|此|这类|这种|您的|你的)(?:问题|请求|话题|内容|要求).{0,6}?我.{0,3}?(?:不能|无法|不便|不会)",
        ".{0,8}?(?:请求|内容|问题|要求).{0,6}?(?:违反|违背|不符合)了?.{0,8}?(?:政策|准则|规定|条款|原则|规范)",
        "我(?:拒绝|必须拒绝|不得不拒绝|只能拒绝)",
        ".{0,6}?(?:让我们|我们)?(?:换个|换一个)话题",
        ".{0,6}?(?:抱歉|对不起|對不起|遗憾|不好意思)[ 但是目前暂时恕]*(?:不能|无法|無法|不便).{0,8}?(?:提供|帮|协助|回答|满足|生成|创作|继续|完成(?:您|你|这|该)|给出|讨论|支持(?:您|你|这|该)|回应|分享|解答|處理|处理(?:您|你|这|该))",
    ],
    led: &[
        "(?:我|本人|本助手|本ai).{0,10}?(?:不能|无法|無法|不可以|不会|没办法|沒辦法|不便|没有办法|不方便|不應).{0,14}?(?:提供|帮|幫|协助|協助|回答|满足|滿足|生成|创作|创建|撰写|写|继续|完成|执行|参与|给出|讨论|支持|回应|分享|編寫|编写|解答|这样做|這樣做|做到|处理(?:您|你|这|该)|涉及)",
    ],
    exceptions: "没有更多|如果没有|更多信息|更多的信息|不得不(?:说|承认)|忍不住|不禁|感谢不尽|才能|具体是|请提供|除非",
};

const JAPANESE: Language = Language {
    leads: "(?:大変|誠に|本当に|まことに)?(?:申し訳|もうしわけ|すみません|すいません|恐れ入りますが|ごめんなさい|ごめんね|残念ながら|残念ですが|恐縮ですが|失礼ながら|心苦しい|ご期待|ありがとうございます|お気持ち|お問い合わせ|(?:私は)?.{0,4}?(?:ai|言語モデル|アシスタント)(?:として|ですので|なので|であるため))",
    gap: UNSPACED,
    plain: &[
        ".{0,24}?(?:お手伝い|お答え|お応え|お力添え|ご協力|応じる|ご提供|支援)(?:する)?(?:ことは|することは|ことが|は)?(?:でき(?:ません|かねます)|出来(?:ません|かねます)|いたしかねます|致しかねます|控え)",
        ".{0,20}?(?:ご要望|リクエスト|ご依頼|ご質問|要求|依頼)に(?:は)?.{0,4}?(?:応じられません|お応えできません|お答えできません|応じることはできません|対応できません|従うことはできません|応えることはできません)",
        ".{0,16}?(?:お断り(?:します|いたします|させて)|回答[をは](?:控え|差し控え))",
    ],
    led: &[concat!(
        "(?:お手伝い|手伝|提供|答え|回答|対応|お応え|応え|作成|生成|ご案内|支援|サポート|協力|共有|お教え|応じ|書く|続ける|助け|議論|説明|参加|執筆|実行|そのような|お話し).{0,12}?",
        "(?:できません|できかねます|出来ません|いたしかねます|致しかねます|られません|おりません|わけにはいきません|控えさせて)(?: |が|ので|$)",
    )],
    exceptions: "情報がない|なしには|詳細がない|情報が不足|せずにはいられ|しないと|いただければ|ください|断定",
};

const KOREAN: Language = Language {
    leads: "(?:정말 |대단히 |매우 |너무 )?(?:죄송|미안|유감|안타깝|아쉽|송구)[^ ]*|저는 (?:[^ ]+ ){0,3}?(?:ai|모델|인공지능|어시스턴트)[^ ]*|(?:ai|인공지능|언어)(?: [^ ]+){0,2}?로서|이해합니다|감사합니다|안녕하세요",
    gap: UNSPACED,
    plain: &[
        "(?:[^ ]+ ){0,6}?[^ ]*(?:도와|도움을|답변|대답|제공해|들어|응해|알려|말씀|처리해|이야기해)[^ ]* ?(?:드릴 수(?:가|는)? 없|드리기(?:가|는)? 어렵|드릴수 없)",
        "(?:[^ ]+ ){0,4}?(?:요청|부탁|질문|주제)[^ ]* (?:[^ ]+ ){0,2}?(?:도와|응할|응답할|답할|답변할|따를|수락할|들어줄|이행할)[^ ]* ?수(?:가|는)? 없(?:습니다|어요|네요|음|다)",
        "(?:[^ ]+ ){0,4}?(?:거절하겠|거부하겠|거절할 수밖에|거절합니다)",
    ],
    led: &[concat!(
        "(?:도와|도움|제공|답변|답할|대답|응할|응답|작성|생성|지원|공유|이행|들어|만들어|계속|참여|알려|논의|따를|협조|말씀|이야기|수행|써 ?드|설명).*?",
        "(?:수(?:가|는)? 없(?:습니다|어요|네요|음|다|는)|수없습니다|어렵습니다|어려울|불가합니다|불가능합니다|못합니다|않습니다)",
    )],
    exceptions: "없이는|정보가 없|추가 정보|알려주시면|제공해 주시면|정확한 답|하지 않을 수",
};

const TURKISH: Language = Language {
    leads: concat!(
        "(?:(?:merhaba|hayir|ama|cok|gercekten) )*(?:uzgunum|maalesef|malesef|ne yazik ki|ozur dilerim|kusura bakma|kusura bakmayin|anliyorum|tesekkurler|tesekkur|affedersiniz|pardon",
        "|bir (?:[^ ]+ ){0,3}?(?:modeli|asistani|asistan|yapay zeka)[^ ]*|yapay zeka[^ ]*|hayir|merhaba)",
    ),
    gap: SPACED,
    plain: &[
        "(?:ama |fakat |hayir )*(?:[^ ]+ ){0,5}?(?:yardimci ol|yardim ed|yerine getir|yanit ver|cevap ver|karsila|destek ol|saglay)(?:am|em)(?:am|em|iyorum|ayacagim|eyecegim|ayiz|eyiz) ",
        "(?:[^ ]+ ){0,3}?(?:reddetmek zorundayim|reddetmeliyim|reddediyorum)",
        "(?:[^ ]+ ){0,5}?(?:ilkelerime|kurallarima|politikalarima|yonergelerime|prensiplerime) (?:aykiri|uygun degil)",
        "(?:[^ ]+ ){0,4}?yardimci olmam (?:mumkun degil|uygun degil)",
    ],
    led: &[
        concat!(
            "(?:[^ ]*(?:ol|ed|ver|getir|yaz|sun|karsila|paylas|yap|katil|tartis|anlat|olustur|uret|sagla|saglay|bulun|yanitla|yanitlay|cevapla|cevaplay|konus|hazirla|hazirlay|surdur)",
            "(?:am|em|yam|yem)(?:am|em|iyorum|ayacagim|eyecegim|ayiz|eyiz)) ",
        ),
        "(?:[^ ]+ma[mn]? |[^ ]+me[mn]? )(?:mumkun degil|uygun degil)",
    ],
    exceptions: " (?:olmadan|gormeden|bilmeden|daha fazla|yeterince|kadar|kesin) ",
};

const ARABIC: Language = Language {
    leads: "(?:(?:مرحبا|لا|لكن) )*(?:(?:انا |نحن )?(?:اسف|اسفه|متاسف|متاسفه)|عذرا|معذره|اعتذر|نعتذر|للاسف|يوسفني|شكرا|افهم|اتفهم|مع الاسف|بصفتي|كنموذج|كمساعد|لا|مرحبا)",
    gap: SPACED,
    plain: &[
        concat!(
            "(?:(?:و|لكن|ولكن|ولكنني|لكنني|انا) )*(?:لا (?:استطيع|يمكنني|اقدر|يسعني)|لن (?:استطيع|اتمكن من|اقدر|يمكنني|اقوم)|(?:غير|لست) قادر[^ ]*(?: علي)?|ليس بامكاني|لا يمكنني) ",
            "(?:ان )?(?:[^ ]+ )?(?:ب?مساعد|المساعد|تلبيه|تقديم (?:ه|اي|معلومات|المساعد|هذ|نصاي|مثل)|الاجابه (?:علي|عن) (?:هذ|مثل|سوال)|المشاركه في|ب?تقديم (?:ه|مساعد)|اساعد|توفير (?:هذ|معلومات))[^ ]* ",
        ),
        "(?:[^ ]+ ){0,4}?(?:يتعارض|ينتهك|يخالف|تتعارض|تنتهك|تخالف) (?:[^ ]+ ){0,2}?(?:ارشادات|سياس|مبادي|قواعد|شروط)",
        "(?:[^ ]+ )?(?:ارفض|يجب ان ارفض|علي ان ارفض) ",
    ],
    led: &[concat!(
        "(?:لا (?:استطيع|يمكنني|اقدر|يسعني|يمكننا)|لن (?:استطيع|اتمكن|اقدر|يمكنني|اقوم)|(?:غير|لست) قادر[^ ]*|ليس بامكاني) (?:.* )?",
        "[^ ]*(?:مساعد|تقديم|تلبيه|اجابه|انشاء|كتابه|توفير|الرد|اكمال|تنفيذ|مشاركه|تزويد|استمرار|اساعد|اقدم|اجيب|انتاج|القيام|توليد|دعم|مناقشه|اعطاء|فعل ذلك|متابعه)[^ ]* ",
    )],
    exceptions: " (?:دون (?:مزيد|معرفه|المزيد)|بدون|كفايه|حتي|الا اذا|نهاي[^ ]*) ",
};
