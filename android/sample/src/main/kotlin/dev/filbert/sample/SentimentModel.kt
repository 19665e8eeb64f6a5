package dev.filbert.sample

import android.app.Application
import androidx.lifecycle.AndroidViewModel
import androidx.lifecycle.viewModelScope
import dev.filbert.FilbertException
import dev.filbert.TextClassifier
import dev.filbert.TextClassifierResult
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.collectLatest
import kotlinx.coroutines.launch

/** What the screen shows. */
data class Answer(
    val result: TextClassifierResult? = null,
    val microseconds: Long = 0,
    val kernels: String = "",
    val problem: String? = null,
)

/** Labels the text that was typed last: a new one cancels the call for the one before. */
class SentimentModel(application: Application) : AndroidViewModel(application) {
    private val texts = MutableStateFlow("a gorgeous, witty film")
    private val answers = MutableStateFlow(Answer())

    val text: StateFlow<String> = texts.asStateFlow()
    val answer: StateFlow<Answer> = answers.asStateFlow()

    init {
        viewModelScope.launch(Dispatchers.Default) {
            try {
                TextClassifier.fromAsset(getApplication(), "sentiment.filbert").use { opened ->
                    texts.collectLatest { text -> answers.value = classify(opened, text) }
                }
            } catch (failure: FilbertException) {
                answers.value = Answer(problem = failure.message)
            }
        }
    }

    fun type(text: String) {
        texts.value = text
    }

    private suspend fun classify(classifier: TextClassifier, text: String): Answer {
        val start = System.nanoTime()
        val result = classifier.classifySuspending(text)
        return Answer(result, (System.nanoTime() - start) / 1000, classifier.kernelSet)
    }
}
