package sortal.sample

import android.content.Context
import android.graphics.Bitmap
import org.json.JSONObject
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** `preprocess.json` of a bundle. Fails where it asks for what this sample does not do. */
fun specOf(json: JSONObject): Spec {
    require(json.isNull("window") && json.isNull("region")) { "this sample knows neither window nor region" }
    require(json.getInt("depth") == 8) { "this sample takes 8-bit images" }
    val size = json.getJSONArray("size")
    val mean = json.getJSONArray("mean")
    return Spec(
        height = size.getInt(0),
        width = size.getInt(1),
        resize = json.getString("resize"),
        crop = json.getDouble("crop"),
        interpolation = json.getString("interpolation"),
        mean = List(mean.length()) { mean.getDouble(it) },
    )
}

class Answer(val label: String, val probability: Float, val givenToAPerson: Boolean)

/**
 * The artifact `tflite-uint8`: pixels in, decision out. Assets: its `model.tflite`, and `preprocess.json` and
 * `labels.json` of the same bundle. Outputs are read by name, never by number.
 */
class Classifier(context: Context) : AutoCloseable {
    private val spec = specOf(JSONObject(text(context, "preprocess.json")))
    private val labels = JSONObject(text(context, "labels.json")).getJSONArray("names")
    private val chosen = Delegates.open(context, bytes(context, "model.tflite"))

    /** Which delegate computes, and which refused. */
    val ranOn: String get() = chosen.said

    /** An upright picture; turn it by its EXIF orientation first. */
    fun classify(bitmap: Bitmap): Answer {
        val prepared = Preprocess.prepare(spec, pixelsOf(bitmap))
        val image = ByteBuffer.allocateDirect(prepared.data.size).order(ByteOrder.nativeOrder())
        image.put(prepared.data).rewind()
        val probabilities = Array(1) { FloatArray(labels.length()) }
        val answer = IntArray(1)
        val abstained = BooleanArray(1)
        chosen.interpreter.runSignature(
            mapOf<String, Any>("image" to image),
            mapOf<String, Any>("probabilities" to probabilities, "answer" to answer, "abstained" to abstained),
        )
        return Answer(labels.getString(answer[0]), probabilities[0][answer[0]], abstained[0])
    }

    override fun close() = chosen.close()

    private fun pixelsOf(bitmap: Bitmap): Pixels {
        val colors = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(colors, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        val data = ByteArray(colors.size * 3)
        colors.forEachIndexed { place, color ->
            data[3 * place] = (color shr 16).toByte()
            data[3 * place + 1] = (color shr 8).toByte()
            data[3 * place + 2] = color.toByte()
        }
        return Pixels(bitmap.width, bitmap.height, 3, data)
    }

    private fun text(context: Context, name: String): String =
        context.assets.open(name).bufferedReader().use { it.readText() }

    private fun bytes(context: Context, name: String): ByteBuffer {
        val data = context.assets.open(name).use { it.readBytes() }
        return ByteBuffer.allocateDirect(data.size).order(ByteOrder.nativeOrder()).apply { put(data).rewind() }
    }
}
