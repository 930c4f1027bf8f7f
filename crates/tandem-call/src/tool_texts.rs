//! What the caller is told of a tool that has nothing to say for itself, by language.

/// The words for two situations, of which neither claims more than is known (control API 11.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolTexts {
    /// The request was written down and will be followed up.
    pub noted: String,
    /// It can't be handled right now; a note can be taken.
    pub trouble: String,
}

impl ToolTexts {
    /// The words in `language` (BCP-47, of which the first part counts), in English where there are none.
    pub fn of(language: &str) -> Self {
        let primary = language.split(['-', '_']).next().unwrap_or_default();
        let (_, noted, trouble) =
            TEXTS.iter().find(|(code, ..)| code.eq_ignore_ascii_case(primary)).unwrap_or(&TEXTS[0]);
        Self { noted: (*noted).into(), trouble: (*trouble).into() }
    }
}

impl Default for ToolTexts {
    fn default() -> Self {
        Self::of("en")
    }
}

/// Language, noted, trouble. The first is for all languages that are not here.
const TEXTS: [(&str, &str, &str); 16] = [
    (
        "en",
        "I have noted that, and someone from the team will follow up.",
        "I can't take care of that right now. Would you like me to take a note for the team?",
    ),
    (
        "es",
        "Lo he anotado, y alguien del equipo se pondrá en contacto.",
        "Ahora mismo no puedo ocuparme de eso. ¿Quiere que tome nota para el equipo?",
    ),
    (
        "pt",
        "Eu anotei, e alguém da equipe vai dar um retorno.",
        "No momento não consigo tratar disso. Quer que eu deixe um recado para a equipe?",
    ),
    (
        "fr",
        "C'est noté, et quelqu'un de l'équipe reviendra vers vous.",
        "Je ne peux pas m'en occuper pour le moment. Voulez-vous que je prenne note pour l'équipe ?",
    ),
    (
        "de",
        "Das habe ich notiert, und jemand aus dem Team kümmert sich darum.",
        "Das kann ich gerade nicht erledigen. Soll ich eine Notiz für das Team aufnehmen?",
    ),
    (
        "it",
        "L'ho annotato e qualcuno del team se ne occuperà.",
        "Al momento non posso occuparmene. Vuole che prenda nota per il team?",
    ),
    (
        "nl",
        "Ik heb het genoteerd en iemand van het team komt erop terug.",
        "Dat kan ik nu niet regelen. Zal ik een notitie maken voor het team?",
    ),
    (
        "pl",
        "Mam to zanotowane i ktoś z zespołu się tym zajmie.",
        "W tej chwili nie mogę tego załatwić. Czy mam zostawić notatkę dla zespołu?",
    ),
    (
        "tr",
        "Bunu not aldım, ekipten biri sizinle ilgilenecek.",
        "Şu anda bununla ilgilenemiyorum. Ekip için not almamı ister misiniz?",
    ),
    (
        "ru",
        "Ваш запрос записан, и кто-то из сотрудников займётся им.",
        "Сейчас это сделать не получается. Оставить заметку для сотрудников?",
    ),
    (
        "uk",
        "Ваш запит записано, і хтось із команди ним займеться.",
        "Зараз це зробити не вдається. Залишити нотатку для команди?",
    ),
    ("zh", "我已经记下来了，团队会有人跟进。", "这件事我现在处理不了。要我给团队留个便条吗？"),
    (
        "ja",
        "承りました。後ほど担当の者が対応いたします。",
        "申し訳ございませんが、ただいま対応できません。担当の者に伝言を残しましょうか。",
    ),
    (
        "ko",
        "말씀하신 내용을 적어 두었으며, 담당자가 확인할 것입니다.",
        "지금은 처리해 드릴 수 없습니다. 담당자에게 메모를 남겨 드릴까요?",
    ),
    (
        "ar",
        "لقد سجلت ذلك، وسيتابعه أحد أعضاء الفريق.",
        "لا يمكنني القيام بذلك الآن. هل تريد أن أترك ملاحظة للفريق؟",
    ),
    (
        "hi",
        "यह लिख लिया गया है, और टीम से कोई इस पर आगे काम करेगा।",
        "अभी यह काम नहीं हो पा रहा है। क्या टीम के लिए एक नोट लिख लिया जाए?",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_has_words_of_its_own_whatever_its_region() {
        for (language, like) in
            [("de-AT", "de"), ("PT_br", "pt"), ("zh-Hant-TW", "zh"), ("fi", "en"), ("", "en")]
        {
            assert_eq!(ToolTexts::of(language), ToolTexts::of(like), "{language}");
        }
        let all: std::collections::BTreeSet<_> =
            TEXTS.iter().map(|(code, ..)| ToolTexts::of(code).trouble).collect();
        assert_eq!(all.len(), TEXTS.len());
    }
}
