package dev.filbert.sample

import android.os.Bundle
import androidx.activity.ComponentActivity
import androidx.activity.compose.setContent
import androidx.activity.enableEdgeToEdge
import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.fillMaxWidth
import androidx.compose.foundation.layout.padding
import androidx.compose.foundation.layout.safeDrawingPadding
import androidx.compose.material3.LinearProgressIndicator
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.OutlinedTextField
import androidx.compose.material3.Surface
import androidx.compose.material3.Text
import androidx.compose.runtime.Composable
import androidx.compose.runtime.collectAsState
import androidx.compose.runtime.getValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.res.stringResource
import androidx.compose.ui.unit.dp
import androidx.lifecycle.viewmodel.compose.viewModel

/** A text field, and under it the labels of what is typed. */
class MainActivity : ComponentActivity() {
    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        enableEdgeToEdge()
        setContent {
            MaterialTheme {
                Surface { Screen() }
            }
        }
    }
}

@Composable
private fun Screen(model: SentimentModel = viewModel()) {
    val text by model.text.collectAsState()
    val answer by model.answer.collectAsState()
    Column(
        modifier = Modifier.safeDrawingPadding().padding(16.dp),
        verticalArrangement = Arrangement.spacedBy(12.dp),
    ) {
        OutlinedTextField(
            value = text,
            onValueChange = model::type,
            label = { Text(stringResource(R.string.prompt)) },
            modifier = Modifier.fillMaxWidth(),
        )
        for (category in answer.result?.categories.orEmpty()) {
            Text("${category.categoryName}  ${"%.1f".format(category.score * 100)} %")
            LinearProgressIndicator(
                progress = { category.score },
                modifier = Modifier.fillMaxWidth(),
            )
        }
        answer.result?.let {
            Text(
                stringResource(R.string.details, it.tokens, answer.microseconds, answer.kernels),
                style = MaterialTheme.typography.bodySmall,
            )
        }
        answer.problem?.let { Text(it, color = MaterialTheme.colorScheme.error) }
    }
}
