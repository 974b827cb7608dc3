package sortal.sample

import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** Golden vectors: small images, and their pixels as Sortal prepares them. No pixel may differ. */
class PreprocessTest {
    @Test
    fun everyPixelIsAsSortalPreparesIt() {
        val text = javaClass.classLoader!!.getResource("golden.json")!!.readText()
        val cases = JSONObject(text).getJSONArray("cases")
        assertTrue(cases.length() > 0)
        for (number in 0 until cases.length()) {
            val case = cases.getJSONObject(number)
            val image = case.getJSONObject("image")
            val given = Pixels(
                image.getInt("width"), image.getInt("height"), image.getInt("channels"), bytes(image.getString("pixels")),
            )
            val found = Preprocess.prepare(specOf(case.getJSONObject("spec")), given)
            assertArrayEquals("case $number", bytes(case.getString("prepared")), found.data)
        }
    }

    private fun bytes(hex: String): ByteArray =
        ByteArray(hex.length / 2) { hex.substring(2 * it, 2 * it + 2).toInt(16).toByte() }
}
